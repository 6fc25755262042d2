// Who led when: one lane for each node that led or may lead, reigns as bars, gaps where nobody did.
//
// Owns the drawing and the span of time that it shows. The table below it says the same in words.

import { button, h, s } from "./dom.js";
import { count, duration, fit, middle, time, zone } from "./words.js";
import { known, node_now, said } from "./watch.js";

const LANE = 26;
const AXIS = 22;
const NAMES = { least: 44, most: 150, narrow: 64 };
const SPANS = [
  ["1h", "1 h", 3600e3],
  ["24h", "24 h", 86400e3],
  ["7d", "7 days", 7 * 86400e3],
  ["all", "all", Infinity],
];
const ROWS = 6;

const chosen = { span: null, whole: false };

export function choose(span) {
  chosen.span = span;
}

export function unfold() {
  chosen.whole = !chosen.whole;
}

export function timeline(width) {
  const reigns = known.history?.reigns || [];
  const head = h(
    "div",
    { class: "bar" },
    h("h2", { id: "timeline-title" }, "Who led when"),
    h(
      "div",
      { class: "choice", role: "group", "aria-label": "Span of time" },
      SPANS.map(([id, text]) =>
        button("span", text, {
          "data-span": id,
          "aria-pressed": String(span_of(reigns)[0] === id),
        }),
      ),
    ),
  );
  const body = reigns.length
    ? [drawing(reigns, width), changes(reigns)]
    : h("p", { class: "empty" }, known.history ? "No reign yet." : "Not known yet.");
  return h(
    "section",
    { class: "timeline", "data-key": "timeline", "aria-labelledby": "timeline-title" },
    head,
    body,
  );
}

/** What was chosen, or the shortest span with the last three changes in it. */
function span_of(reigns) {
  if (chosen.span) return SPANS.find(([id]) => id === chosen.span);
  const third = reigns[Math.max(0, reigns.length - 3)];
  const ago = third ? node_now() - begun(third) : 0;
  return SPANS.find(([, , ms]) => ago < ms * 0.95);
}

function begun(reign) {
  return Date.parse(reign.began_at || reign.established_at || 0);
}

function drawing(reigns, width) {
  const now = node_now();
  const [, , ms] = span_of(reigns);
  const all = Math.max(now - begun(reigns[0]), 60e3) * 1.02;
  const from = now - Math.min(ms, all);
  const narrow = width < 560;
  const scale = (at) => left + ((Math.max(at, from) - from) / (now - from)) * (width - left - 2);
  const may = known.nodes
    .filter((one) => !["witness", "proxy"].includes(one.role))
    .map((one) => one.name);
  const lanes = [...new Set([...may, ...reigns.map((one) => one.primary)])].sort();
  const longest = Math.max(...lanes.map((one) => one.length)) * 8 + 16;
  const left = Math.min(Math.max(longest, NAMES.least), narrow ? NAMES.narrow : NAMES.most);
  const height = lanes.length * LANE + AXIS;
  const y = (name) => lanes.indexOf(name) * LANE;
  const parts = [
    ...ticks(from, now, scale, height, narrow),
    ...lanes.map((name) => lane(name, y(name), left, width)),
  ];
  reigns.forEach((reign, at) => {
    const until = reigns[at + 1] ? begun(reigns[at + 1]) : now;
    if (until < from) return;
    if (reign.established) parts.push(bar(reign, { scale, until, y: y(reign.primary), from }));
    if (at > 0) parts.push(gap(reign, { scale, until, height: height - AXIS }));
  });
  const last = reigns[reigns.length - 1];
  return s(
    "svg",
    {
      class: "lanes",
      role: "img",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      "aria-label": `${count(reigns.length, "reign")}, the last of ${last.primary}`,
    },
    parts,
  );
}

function lane(name, y, left, width) {
  return s(
    "g",
    { "data-key": `lane-${name}` },
    s("path", { d: `M${left} ${y + LANE / 2}H${width}`, class: "lane" }),
    s("text", { x: 0, y: y + LANE / 2 + 4, class: "name" }, middle(name, left - 12, 8)),
  );
}

function bar(reign, { scale, until, y, from }) {
  const begin = Date.parse(reign.established_at || reign.began_at);
  const x = scale(begin);
  const wide = Math.max(2, scale(until) - x);
  const when = time(reign.established_at);
  const text = `epoch ${reign.epoch}: ${reign.primary}, ${kind(reign)}, ${when}`;
  return s(
    "g",
    { class: `reign ${reign.kind}`, "data-key": `reign-${reign.epoch}` },
    s("title", {}, text),
    s("rect", { x, y: y + 5, width: wide, height: LANE - 10, rx: 3 }),
    wide > 26 && s("text", { x: x + 7, y: y + LANE / 2 + 4 }, fit(`${reign.epoch}`, wide - 8, 8)),
    begin >= from && s("path", { d: `M${x} ${y + 3}v${LANE - 6}`, class: "begin" }),
  );
}

/** When nobody led: one who was never established did not. */
function gap(reign, { scale, until, height }) {
  const end = reign.established ? Date.parse(reign.established_at || reign.began_at) : until;
  const [x1, x2] = [scale(begun(reign)), scale(end)];
  return s("rect", {
    class: `gap ${reign.kind}`,
    x: x1,
    y: 0,
    width: Math.max(1.5, x2 - x1),
    height,
    "data-key": `gap-${reign.epoch}`,
  });
}

function ticks(from, now, scale, height, narrow) {
  const steps = [
    60e3,
    300e3,
    900e3,
    3600e3,
    3 * 3600e3,
    6 * 3600e3,
    86400e3,
    7 * 86400e3,
    30 * 86400e3,
  ];
  const most = narrow ? 3 : 7;
  const step = steps.find((one) => (now - from) / one <= most) || (now - from) / most;
  const shift = new Date(now).getTimezoneOffset() * 60e3;
  const found = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at < now; at += step) {
    const x = scale(at);
    const days = step >= 86400e3;
    const label = days
      ? new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short" })
      : time(new Date(at).toISOString(), { seconds: false });
    found.push(
      s(
        "g",
        { class: "tick", "aria-hidden": "true" },
        s("path", { d: `M${x} 0V${height - AXIS + 4}` }),
        s("text", { x, y: height - 4, "text-anchor": x < 70 ? "start" : "middle" }, label),
      ),
    );
  }
  return found;
}

function kind(reign) {
  if (reign.kind === "switchover") return "switchover";
  if (reign.kind === "failover") return reign.promoted ? "failover" : "same primary again";
  return reign.kind;
}

function changes(reigns) {
  const newest = [...reigns].reverse();
  const shown = chosen.whole ? newest : newest.slice(0, ROWS);
  const row = (one) =>
    h(
      "tr",
      { "data-key": `change-${one.epoch}`, class: one.kind, role: "row" },
      h(
        "td",
        { role: "cell", class: "when" },
        h("time", { datetime: one.began_at, title: one.began_at }, time(one.began_at)),
      ),
      h("td", { role: "cell", class: "number" }, one.epoch),
      h("td", { role: "cell" }, h("span", { class: `kind ${one.kind}` }, kind(one))),
      h(
        "td",
        { role: "cell" },
        one.old_primary && one.old_primary !== one.primary ? `${one.old_primary} → ` : "",
        h("strong", {}, one.primary),
      ),
      h(
        "td",
        { role: "cell", class: "number" },
        one.established ? duration(one.duration_ms) : "not established",
      ),
      h("td", { role: "cell", class: "why" }, lost(one), said(one.reason)),
    );
  return [
    h(
      "div",
      { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Changes of the primary" },
      h(
        "table",
        { role: "table" },
        h("caption", { class: "unseen" }, "Changes of the primary, the newest first"),
        h(
          "thead",
          { role: "rowgroup" },
          h(
            "tr",
            { role: "row" },
            ["When", "Epoch", "What", "Primary", "Took", "Why"].map((text) =>
              h("th", { scope: "col", role: "columnheader" }, text),
            ),
          ),
        ),
        h("tbody", { role: "rowgroup" }, shown.map(row)),
      ),
    ),
    h(
      "p",
      { class: "under" },
      newest.length > ROWS &&
        button("unfold", chosen.whole ? "Show fewer" : `Show all ${newest.length}`, {
          class: "plain",
          "aria-expanded": String(chosen.whole),
        }),
      h(
        "span",
        { class: "soft" },
        `The number in a bar is its epoch; red: a failover. Times are in ${zone()}.`,
      ),
    ),
  ];
}

function lost(one) {
  const parts = [];
  if (one.lost_bytes) parts.push(`${one.lost_bytes} bytes of WAL lost`);
  if (one.gave_up.length) parts.push(`gave up ${one.gave_up.join(", ")}`);
  return parts.length ? h("strong", { class: "loss" }, `${parts.join("; ")}. `) : null;
}
