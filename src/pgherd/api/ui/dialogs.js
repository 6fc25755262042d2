// Dialogs: one at a time, modal, with the plan before the button that carries it out.
//
// Theory of operation. A dialog is an object with `title`, `body()` and `actions()`; it is drawn
// anew when something changes, in place, so that focus and what was typed stay. The element is the
// browser's own <dialog>: it keeps focus inside, closes with Escape and gives focus back. While
// what is known is stale nothing is carried out: a node that wakes would do it much later.

import { Refused, Unanswered } from "./api.js";
import { button, h, mark, show } from "./dom.js";
import { freshness, said } from "./watch.js";

const element = document.getElementById("dialog");
let now = null;

export function open(one) {
  now = { trouble: "", busy: "", done: "", ...one };
  element.classList.toggle("broad", Boolean(one.broad));
  show(element);
  draw();
  if (!element.open) element.showModal();
  (element.querySelector("[data-first]") || element.querySelector("h2")).focus();
  if (one.load) run("", one.load, { quiet: true });
}

export function close() {
  if (element.open) element.close();
}

export function current() {
  return element.open ? now : null;
}

/** Draw it as it is now. */
export function draw() {
  if (now === null) return;
  const one = now;
  const stale = freshness() === "stale" && !one.done && !one.busy;
  const last = one.done || one.busy || stale ? [] : one.actions?.() || [];
  show(
    element,
    h(
      "form",
      { method: "dialog", "data-form": "dialog", novalidate: true },
      h("h2", { id: "dialog-title", tabindex: -1 }, one.title),
      one.body(),
      h(
        "div",
        { class: "outcome", role: "status", "aria-live": "polite" },
        one.busy && h("p", { class: "busy" }, one.busy),
        one.done && h("p", { class: "done" }, mark("ok"), one.done),
        stale && h("p", { class: "busy" }, "This node does not answer, so nothing is asked of it."),
      ),
      one.trouble &&
        h("p", { class: "trouble", role: "alert" }, mark("bad"), h("span", {}, one.trouble)),
      h(
        "div",
        { class: "actions" },
        last,
        button("close", one.done || !last.length ? "Close" : "Leave it", {
          class: last.length ? "" : "main",
        }),
      ),
    ),
  );
}

/** Do something that takes a while, and tell in the dialog what became of it. */
export async function run(text, work, { quiet = false } = {}) {
  const mine = now;
  if (!quiet) Object.assign(mine, { busy: text, trouble: "" });
  draw();
  try {
    const done = await work(mine);
    if (!quiet) mine.done = done || "Done.";
  } catch (error) {
    mine.trouble = told(error);
  } finally {
    mine.busy = "";
    if (now === mine) {
      draw();
      if (!quiet) element.querySelector("[data-act=close]")?.focus();
    }
  }
}

export function told(error) {
  if (error instanceof Refused)
    return `${said(error.message)}${error.hint ? `. ${said(error.hint)}` : ""}`;
  if (error instanceof Unanswered)
    return `${said(error.message)}: whether it was taken is not known; look before you try again.`;
  throw error;
}

/** What was looked at, each with its mark. */
export function checks(found) {
  return h(
    "ul",
    { class: "checks" },
    found.map((one) =>
      h(
        "li",
        { class: one.ok ? "ok" : "bad", "data-key": one.name },
        mark(one.ok ? "ok" : "bad"),
        h("b", {}, one.name),
        ` ${one.text}`,
      ),
    ),
  );
}

/** What is in the dialog's field of this name. */
export function field(name) {
  return element.querySelector("form")?.elements[name]?.value ?? "";
}

export function ticked(name) {
  return Boolean(element.querySelector("form")?.elements[name]?.checked);
}

export function text_field(name, label, note) {
  return h(
    "p",
    { class: "field", "data-key": `field-${name}` },
    h("label", { for: `f-${name}` }, label),
    h("input", {
      id: `f-${name}`,
      name,
      maxlength: 200,
      autocomplete: "off",
      "aria-describedby": note ? `n-${name}` : null,
    }),
    note && h("span", { class: "note", id: `n-${name}` }, note),
  );
}

export function choice_field(name, label, choices) {
  return h(
    "p",
    { class: "field", "data-key": `field-${name}` },
    h("label", { for: `f-${name}` }, label),
    h(
      "select",
      { id: `f-${name}`, name },
      choices.map(([value, text]) => h("option", { value }, text)),
    ),
  );
}

element.addEventListener("close", () => {
  now = null;
});
