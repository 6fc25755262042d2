// What stands around the state: head, foot, the banner of trouble, and the way in.

import { button, h, mark } from "./dom.js";
import { age, time } from "./words.js";
import { freshness, known, silent_ms } from "./watch.js";

const THEMES = [
  ["", "Auto"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function head() {
  const { status, me } = known;
  return [
    h(
      "div",
      { class: "brand" },
      h("span", { class: "product" }, "pgherd"),
      status && h("b", { class: "cluster" }, status.cluster_name),
      seen_by(),
    ),
    h("div", { class: "tools" }, themes(), me && person(me)),
  ];
}

function seen_by() {
  if (known.refused) return null;
  const how = { live: "ok", late: "warn", stale: "bad", unreached: "bad", connecting: "idle" }[
    freshness()
  ];
  const text = {
    live: "live",
    late: "answer overdue",
    stale: "stale",
    unreached: "no answer",
    connecting: "connecting",
  }[freshness()];
  const of = known.me ? ` by ${known.me.node}` : "";
  return h(
    "span",
    { class: `seen ${how}` },
    mark(how),
    h("span", {}, `seen${of}, `),
    h("b", {}, text),
  );
}

function themes() {
  const now = document.documentElement.dataset.theme || "";
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": "Theme" },
    THEMES.map(([id, text]) =>
      button("theme", text, { "data-theme-id": id, "aria-pressed": String(now === id) }),
    ),
  );
}

export function set_theme(id) {
  if (id) document.documentElement.dataset.theme = id;
  else delete document.documentElement.dataset.theme;
  try {
    if (id) localStorage.setItem("pgherd.theme", id);
    else localStorage.removeItem("pgherd.theme");
  } catch {
    // it counts for this page alone then
  }
}

function person(me) {
  if (!me.has_rights) return h("span", { class: "who" }, "nobody needs a token here");
  const anybody = me.name === "anybody";
  return [
    h("span", { class: "who" }, anybody ? "not signed in" : h("b", {}, me.name), `, ${me.role}`),
    anybody
      ? button("sign-in", "Sign in…", { class: "plain" })
      : button("sign-out", "Sign out", { class: "plain" }),
  ];
}

/** What is wrong with what is shown: nothing while it is live. */
export function banner() {
  const state = freshness();
  if (state === "live" || state === "connecting") return null;
  if (state === "late")
    return h(
      "p",
      { class: "notice warn", "data-key": "late" },
      mark("warn"),
      h("span", {}, `The last answer is ${age(silent_ms())} old; asking again.`),
    );
  const node = known.me?.node || "this node";
  if (state === "unreached")
    return h(
      "div",
      { class: "notice bad", "data-key": "unreached" },
      mark("bad"),
      h(
        "div",
        {},
        h("b", {}, "No answer from this node"),
        h("p", {}, `${known.trouble}; trying again every two seconds.`),
      ),
    );
  return h(
    "div",
    { class: "notice bad", "data-key": "stale" },
    mark("bad"),
    h(
      "div",
      {},
      h("b", {}, `Stale: ${node} has not answered for ${age(silent_ms())}`),
      h(
        "p",
        {},
        `What is below was so at ${time(known.status.timestamp)} and may not be so any more. `,
        "Trying again every two seconds.",
      ),
      elsewhere(),
    ),
  );
}

/** The dashboards of the other nodes: this one may be what is broken. */
export function elsewhere() {
  const others = known.nodes.filter((one) => one.name !== known.me?.node && one.api_port);
  if (!others.length) return null;
  return h(
    "p",
    {},
    "Look from another node: ",
    others.map((one, at) => [at ? ", " : "", h("a", { href: address(one) }, one.name)]),
  );
}

export function address(node) {
  const host = node.host.includes(":") ? `[${node.host}]` : node.host;
  return `${location.protocol}//${host}:${node.api_port}/ui/`;
}

export function foot() {
  const node = known.nodes.find((one) => one.name === known.me?.node);
  return [
    node && h("span", {}, `pgherd ${node.version}`),
    known.status && h("span", {}, `system ${known.status.system_id || "–"}`),
    known.status && h("span", {}, `ledger index ${known.status.as_of}`),
    h("a", { href: "../docs" }, "The API"),
  ];
}

export function connecting() {
  return h(
    "div",
    { class: "blank" },
    h("p", { class: "soft" }, "Asking this node for the state of the cluster…"),
  );
}

/** The way in, where nothing may be read without a token. */
export function sign_in(said) {
  return h(
    "form",
    { class: "blank sign-in", "data-form": "sign-in" },
    h("h1", {}, "Sign in"),
    h(
      "p",
      {},
      "This node shows the cluster to holders of an API token: ",
      h("code", {}, "pgherd token create --role viewer"),
      ".",
    ),
    token_field(),
    said && h("p", { class: "trouble", role: "alert" }, said),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "main" }, "Sign in")),
  );
}

export function token_field() {
  return h(
    "p",
    { class: "field" },
    h("label", { for: "token" }, "Token"),
    h("input", {
      id: "token",
      name: "token",
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      "aria-describedby": "token-note",
    }),
    h(
      "span",
      { id: "token-note", class: "note" },
      "Kept in this tab until it is closed, and sent to this node alone.",
    ),
  );
}
