// Elements made of data, and the page changed into what it should be, in place.
//
// `h` and `s` make elements of HTML and SVG. Text becomes text nodes and nothing is ever parsed as
// markup, so that what a node or an operator is called cannot become a part of the page. `show`
// changes an element's content into new content with as few changes as can be: focus, selection
// and scrolling stay where they are. Children with the same data-key are the same element.
// Listeners are not made here: clicks are heard once for the whole page, by data-act (`main.js`).

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Have an element contain exactly these. */
export function show(element, ...children) {
  const wanted = filled(document.createElement("div"), null, children);
  children_into(element, [...wanted.childNodes]);
}

/** Who is gone goes first: what stays is not moved then, and keeps the focus. */
function children_into(element, wanted) {
  const keys = new Set(wanted.map((one) => one.dataset?.key));
  const keyed = new Map();
  for (const child of [...element.children]) {
    const { key } = child.dataset;
    if (key && !keys.has(key)) child.remove();
    else if (key) keyed.set(key, child);
  }
  let at = element.firstChild;
  for (const next of wanted) {
    const key = next.dataset?.key;
    const same = key ? keyed.get(key) : at;
    if (same && alike(same, next)) {
      if (same === at) at = at.nextSibling;
      else element.insertBefore(same, at);
      into(same, next);
    } else {
      element.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  return one.nodeName === other.nodeName && one.dataset?.key === other.dataset?.key;
}

function into(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    const kept = name === "open" && old.nodeName === "DETAILS";
    if (!kept && !wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  children_into(old, [...wanted.childNodes]);
}

/** A mark with the shape, not the colour alone, of how something is. */
export function mark(how) {
  const shapes = {
    ok: s("circle", { cx: 8, cy: 8, r: 5.5 }),
    warn: s("path", { d: "M8 1.8 15 14H1z" }),
    bad: s("path", { d: "M2.5 2.5h11v11h-11z" }),
    idle: s("circle", { cx: 8, cy: 8, r: 4.7, class: "hollow" }),
  };
  const inside = {
    warn: s("path", { d: "M8 6v4M8 11.4v1.4", class: "inside" }),
    bad: s("path", { d: "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2", class: "inside" }),
  };
  return s(
    "svg",
    { class: `mark ${how}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
    shapes[how],
    inside[how],
  );
}

/** A button; more: attributes beside. */
export function button(act, text, more) {
  return h("button", { type: "button", "data-act": act, ...more }, text);
}
