// The tables and lists beside the drawings: nodes, proxies and pools, work in hand, events.

import { button, h, mark } from "./dom.js";
import { age, count, duration, how, is_heard, lag, pending, role, time } from "./words.js";
import { freshness, known, may, said } from "./watch.js";

export function nodes() {
  const heads = ["Node", "Role", "State", "Lag", "LSN", "Timeline", "PostgreSQL", "Vote", "Up for"];
  const names = ["", "wide", "", "number", "wide number", "wide number", "wide", "wide", "wide"];
  return h(
    "section",
    { class: "nodes", "data-key": "nodes", "aria-labelledby": "nodes-title" },
    h("h2", { id: "nodes-title" }, "Nodes"),
    h(
      "div",
      { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Nodes" },
      h(
        "table",
        {},
        h("caption", { class: "unseen" }, "All members; a name opens its details"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((text, at) => h("th", { scope: "col", class: names[at] }, text)),
          ),
        ),
        h(
          "tbody",
          {},
          known.nodes.map((one) => row(one, names)),
        ),
      ),
    ),
  );
}

function row(node, names) {
  const more = { class: "plain name", "data-name": node.name, "aria-haspopup": "dialog" };
  const late = pending(node).length ? "waits for a restart" : "";
  const why = [node.state_reason, node.problem, late, node.maintenance && "in maintenance"];
  const cells = [
    null,
    [
      role(node),
      node.role === "replica" && h("span", { class: "soft" }, node.is_sync ? ", sync" : ", async"),
    ],
    [
      h("span", { class: "whole" }, mark(how(node)), node.state),
      why.filter(Boolean).map((text) => h("span", { class: "note" }, text)),
    ],
    node.is_primary ? "–" : lag(node),
    node.lsn || "–",
    node.timeline || "–",
    node.postgresql_version || "–",
    known.status.raft_leader === node.name ? "leads Raft" : node.is_voter ? "votes" : "no vote",
    is_heard(node) ? age(node.uptime_seconds * 1000) : "–",
  ];
  return h(
    "tr",
    { "data-key": node.name, class: how(node) },
    h("th", { scope: "row" }, button("node", node.name, more)),
    cells.slice(1).map((cell, at) => h("td", { class: names[at + 1] || null }, cell)),
  );
}

// --- ways in -------------------------------------------------------------------------------------

export function proxies() {
  const found = known.proxies?.proxies;
  let body;
  if (!found) body = h("p", { class: "empty" }, "Not known yet.");
  else if (!found.length) body = h("p", { class: "empty" }, "No node has a listener for clients.");
  else body = h("ul", { class: "ways" }, found.map(proxy));
  return h(
    "section",
    { class: "proxies", "data-key": "proxies", "aria-labelledby": "proxies-title" },
    h("h2", { id: "proxies-title" }, "Ways in"),
    body,
  );
}

function proxy(one) {
  const how = one.problem || !one.proxy_healthy ? "bad" : one.held ? "warn" : "ok";
  const ways = Object.entries(one.by_backend).filter(([, number]) => number);
  const to = ways.map(([node, number]) => `${number} to ${node}`).join(", ");
  const held = one.held ? h("b", { class: "held" }, `${count(one.held, "client")} held`) : null;
  const first = one.problem
    ? h("span", { class: "note" }, one.problem)
    : [
        count(one.active_connections, "session"),
        to && h("span", { class: "soft" }, ` (${to})`),
        held && " · ",
        held,
      ];
  return h(
    "li",
    { "data-key": one.node, class: how },
    mark(how),
    h("div", {}, h("b", {}, one.node), " ", first, one.pools.map(pool)),
  );
}

function pool(one) {
  const waits = one.clients_waiting
    ? h(
        "b",
        { class: "held" },
        `, ${count(one.clients_waiting, "client")} waiting for ${duration(one.longest_wait_ms)}`,
      )
    : null;
  const paused = one.is_paused ? ", paused" : "";
  const size = one.size * one.pools;
  return h(
    "div",
    { class: "note", "data-key": `${one.user}@${one.database}/${one.server}` },
    `pool ${one.user}@${one.database} on ${one.server}: `,
    `${one.servers_active} of ${size} servers in use`,
    `, ${count(one.clients_active, "client")}${paused}`,
    waits,
  );
}

// --- work ----------------------------------------------------------------------------------------

export function work() {
  const open = known.actions.filter((one) => ["pending", "running"].includes(one.state));
  const ended = known.actions.filter((one) => !open.includes(one)).slice(0, 4);
  if (!open.length && !ended.length) return null;
  return h(
    "section",
    { class: "work", "data-key": "work", "aria-labelledby": "work-title" },
    h("h2", { id: "work-title" }, "Work in hand"),
    h("ul", {}, open.map(action), ended.map(action)),
  );
}

function action(one) {
  const how = { done: "ok", failed: "bad", cancelled: "idle", pending: "idle", running: "warn" }[
    one.state
  ];
  const open = ["pending", "running"].includes(one.state);
  const when = open
    ? one.due_at
      ? `due ${time(one.due_at)}`
      : `since ${time(one.requested_at)}`
    : time(one.ended_at);
  const percent = open && one.progress_percent !== null;
  return h(
    "li",
    { "data-key": one.id, class: how },
    mark(how),
    h(
      "div",
      {},
      h("b", {}, said(one.what)),
      ` ${one.state}`,
      h("span", { class: "soft" }, `, ${when}`),
      one.step && h("div", { class: "note" }, said(one.step)),
      percent && h("progress", { max: 100, value: one.progress_percent, "aria-label": one.what }),
    ),
    open &&
      may("operator") &&
      freshness() !== "stale" &&
      button("cancel", "Cancel…", { class: "plain", "data-id": one.id, "data-what": one.what }),
  );
}

// --- events --------------------------------------------------------------------------------------

const filter = { notable: false };
const SHOWN = 120;

export function only_notable(value) {
  filter.notable = value;
}

/** Whether something happened; that all is as it was is what the page shows anyway. */
function tells(event) {
  return event.level !== "debug" && event.kind !== "cluster.report";
}

export function events() {
  const notable = (one) => ["warning", "error"].includes(one.level);
  const taken = known.events.filter((one) => tells(one) && (!filter.notable || notable(one)));
  const live = known.stream === "live" && freshness() === "live";
  const choices = [
    ["all", "All changes", !filter.notable],
    ["notable", "Warnings", filter.notable],
  ];
  return h(
    "section",
    { class: "events", "data-key": "events", "aria-labelledby": "events-title" },
    h(
      "div",
      { class: "bar" },
      h("h2", { id: "events-title" }, "Events"),
      h(
        "span",
        { class: `stream ${live ? "ok" : "warn"}` },
        mark(live ? "ok" : "warn"),
        live ? "live" : known.stream === "connecting" ? "connecting" : "reconnecting",
      ),
      h(
        "div",
        { class: "choice", role: "group", "aria-label": "Which events" },
        choices.map(([id, text, on]) =>
          button("filter", text, { "data-filter": id, "aria-pressed": String(on) }),
        ),
      ),
    ),
    taken.length
      ? h(
          "ol",
          { class: "log", tabindex: 0, "aria-label": "Events, the newest first" },
          taken.slice(0, SHOWN).map(event),
        )
      : h("p", { class: "empty" }, quiet()),
  );
}

function quiet() {
  if (known.stream === "connecting") return "Asking for the newest…";
  return filter.notable ? "No warnings so far." : "Nothing has happened since this node began.";
}

function event(one) {
  const how = { error: "bad", warning: "warn" }[one.level] || "idle";
  const took = one.duration_ms === null ? "" : ` (${duration(one.duration_ms)})`;
  return h(
    "li",
    { "data-key": one.id, class: how },
    h("time", { datetime: one.at, title: one.at }, time(one.at)),
    mark(how),
    h(
      "div",
      {},
      h("span", { class: "kind" }, one.kind),
      one.node && h("span", { class: "of" }, one.node),
      h("div", { class: "text" }, `${one.text}${took}`),
    ),
  );
}
