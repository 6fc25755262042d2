// The page put together, and what happens when somebody clicks or types.
//
// Owns the order of the sections, the one listener for clicks, and what is said aloud: changes that
// matter, once each, to those who listen to the page.

import { Refused, token } from "./api.js";
import * as dialogs from "./dialogs.js";
import { h, show } from "./dom.js";
import * as frame from "./frame.js";
import * as panels from "./panels.js";
import * as plans from "./plans.js";
import * as times from "./timeline.js";
import { topology } from "./topology.js";
import { attention, verdict, words } from "./verdict.js";
import * as watch from "./watch.js";

const { known, said } = watch;
const at = (id) => document.getElementById(id);
const LEAST = 300;
const ALOUD_MAX = 8;
let refusal = "";
let due = false;
let greeted = false;

// --- drawing -------------------------------------------------------------------------------------

function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    draw();
  });
}

function draw() {
  show(at("head"), frame.head());
  show(at("foot"), frame.foot());
  show(at("banner"), frame.banner());
  const page = at("page");
  const stale = watch.freshness() === "stale";
  page.classList.toggle("stale", stale);
  show(page, content());
  document.title = title(stale);
  if (known.refused) dialogs.close();
  if (dialogs.current()) dialogs.draw();
  say_changes(stale);
  greet();
}

/** Who has to sign in begins to type at once. */
function greet() {
  const asks = known.refused !== null;
  if (asks && !greeted) at("token")?.focus();
  greeted = asks;
}

function content() {
  if (known.refused) return frame.sign_in(refusal || refused());
  if (!known.status) return watch.freshness() === "unreached" ? null : frame.connecting();
  const wide = Math.max(LEAST, room("left"));
  return [
    verdict(),
    attention(),
    h(
      "div",
      { class: "columns", "data-key": "columns" },
      h(
        "div",
        { class: "left", "data-key": "left" },
        topology(wide),
        panels.nodes(),
        times.timeline(wide),
      ),
      h(
        "div",
        { class: "right", "data-key": "right" },
        panels.work(),
        panels.proxies(),
        panels.events(),
      ),
    ),
  ];
}

/** Why a token that was there does not count, or why nobody at this address may look at all. */
function refused() {
  if (known.refused.status === 403) return `${said(known.refused.message)}. ${known.refused.hint}`;
  return token() ? "The token of this tab is not known here, or counts no more." : "";
}

/** How wide the column is that the drawings stand in. */
function room(name) {
  const column = document.querySelector(`.columns > .${name}`);
  return Math.floor(column?.clientWidth || at("page").clientWidth);
}

function title(stale) {
  if (!known.status) return "pgherd";
  const mark = stale ? "stale" : words();
  return `${mark}: ${known.status.cluster_name} (pgherd)`;
}

// --- said aloud ----------------------------------------------------------------------------------

let before = null;

function say_changes(stale) {
  if (!known.status) return;
  const { primary_node_id: primary, epoch, paused } = known.status;
  const now = { primary, epoch, paused, stale, words: words() };
  const news = [];
  if (before) {
    if (now.stale !== before.stale) news.push(stale ? "What is shown is stale" : "Live again");
    if (now.words !== before.words) news.push(now.words);
    if (now.primary !== before.primary || now.epoch !== before.epoch)
      news.push(primary ? `${primary} leads epoch ${epoch}` : "nobody leads");
    if (now.paused !== before.paused)
      news.push(paused ? "Automation is paused" : "The pause is over");
  }
  before = now;
  if (news.length) tell_aloud(`${news.map(said).join(". ")}.`);
}

/** Added, so that what comes soon after takes nothing away that nobody has heard yet. */
function tell_aloud(text) {
  const told = at("said");
  told.append(h("p", {}, text));
  while (told.children.length > ALOUD_MAX) told.firstElementChild.remove();
}

// --- clicks and keys -----------------------------------------------------------------------------

const ACTS = {
  node: (data) => plans.details(data.name),
  switchover: (data) => plans.switchover(data.to),
  pause: plans.pause,
  resume: plans.resume,
  maintenance: (data) => plans.maintenance(data.name),
  cancel: (data) => plans.cancel(data.id, data.what),
  close: dialogs.close,
  "carry-out": () => dialogs.current()?.carry_out(),
  "sign-in": plans.sign_in,
  "sign-out": watch.leave,
  theme: (data) => frame.set_theme(data.themeId),
  span: (data) => times.choose(data.span),
  unfold: times.unfold,
  filter: (data) => panels.only_notable(data.filter === "notable"),
};

function act(element) {
  ACTS[element.dataset.act]?.(element.dataset);
  redraw();
}

/** The second click of a double one was meant for what stood there before, and so is a held key. */
document.addEventListener("click", (event) => {
  const element = event.target.closest("[data-act]");
  if (element && event.detail < 2) act(element);
});

document.addEventListener("keydown", (event) => {
  const element = event.target.closest?.("[data-act]");
  if (!element || !["Enter", " "].includes(event.key)) return;
  if (element.nodeName === "BUTTON" && !event.repeat) return;
  event.preventDefault();
  if (!event.repeat) act(element);
});

document.addEventListener("change", (event) => {
  if (event.target.closest("#dialog"))
    dialogs.current()?.changed?.(event.target.name, event.target.value);
});

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.form === "dialog") {
    form.querySelector("[data-act=carry-out]")?.click();
    return;
  }
  try {
    refusal = "";
    await watch.enter(form.elements.token.value.trim());
  } catch (error) {
    refusal =
      error instanceof Refused && error.status === 401
        ? "This token is not known here."
        : error.message;
    form.elements.token.focus();
  }
  redraw();
});

new ResizeObserver(redraw).observe(at("page"));
watch.begin(redraw);
redraw();
