// The state of the cluster in one glance: is it writable, who leads, since when, how safe.
//
// Owns the words of the verdict and its five facts. Whether commits go through, what is wrong and
// what is promised is the node's to say; nothing is decided here.

import { button, h, mark } from "./dom.js";
import { elsewhere } from "./frame.js";
import { age, bytes, count, duration, has_lag, is_heard, list } from "./words.js";
import { freshness, known, may, node_now, said, since_ms } from "./watch.js";

const DOING = {
  detecting: "the primary does not answer; the others look whether it is lost",
  sealing: "an election is under way: members are sealed, the one who has everything is sought",
  promoting: "the new primary is being promoted",
  recovering: "replicas are coming back",
  switchover: "a switchover is under way",
};

export function verdict() {
  const status = known.status;
  const by_status = { operational: "ok", degraded: "warn", down: "bad" }[status.status];
  const how = status.split_brain ? "bad" : by_status;
  return h(
    "section",
    { class: `verdict ${how}`, "data-key": "verdict", "aria-labelledby": "verdict-title" },
    h(
      "div",
      { class: "headline" },
      mark(how),
      h("div", {}, title(status), h("div", { class: "led" }, led(status))),
    ),
    actions(status),
    h("dl", { class: "facts" }, ...facts(status)),
  );
}

/** The few words that the whole page stands under; also the title of the tab. */
export function words(status = known.status) {
  if (status.split_brain) return "Split brain";
  if (is_cut_off(status)) return "No quorum here";
  if (status.follows) return status.status === "down" ? "Reads do not work" : "Standby cluster";
  if (status.status === "down") return status.phase === "unborn" ? "No data yet" : "Writes wait";
  return status.status === "operational" ? "Writable" : "Writable, with trouble";
}

/** Whether this node cannot know: the others may have another primary, which takes writes. */
function is_cut_off(status) {
  return !status.has_quorum && status.status === "down";
}

function title(status) {
  const text = words(status);
  const stale = freshness() === "stale";
  return h("h1", { id: "verdict-title" }, stale ? `Last seen: ${text.toLowerCase()}` : text);
}

function led(status) {
  if (is_cut_off(status)) return cut_off(status);
  const doing = DOING[status.failover_state];
  if (status.follows) return standby(status);
  if (status.split_brain) return two_minds(status);
  if (!status.primary_node_id)
    return said(doing || `nobody leads: epoch ${status.epoch} is ${status.phase}`);
  const since = since_ms(status.last_topology_change);
  const lines = [
    h("strong", {}, status.primary_node_id),
    ` has led for ${age(since)}, `,
    h("span", { class: "soft" }, `epoch ${status.epoch}`),
  ];
  if (doing) lines.push(`; ${doing}`);
  return lines;
}

function cut_off(status) {
  const heard = status.primary_node_id
    ? `As it last heard, ${status.primary_node_id} led epoch ${status.epoch}.`
    : "";
  const here = known.me?.node || "This node";
  return [`${here} hears no Raft leader; the others may go on without it. ${heard}`, elsewhere()];
}

function two_minds(status) {
  const led = status.primary_node_id
    ? [h("strong", {}, status.primary_node_id), ` leads epoch ${status.epoch} by the ledger; `]
    : [];
  return [led, "a server contradicts the ledger, and nobody is led to it"];
}

function standby(status) {
  const { hosts, standby_leader: leader, is_streaming: streams, reason } = status.follows;
  const how = streams || !leader ? "streams" : "does not stream";
  const why = leader ? "" : ` (${reason})`;
  const from = `${leader || "nobody"} ${how} from ${list(hosts, "or")}${why}`;
  return `${said(from)}; the cluster takes no writes of its own`;
}

function actions(status) {
  if (!may("operator") || freshness() === "stale" || is_cut_off(status)) return null;
  const paused = status.paused
    ? button("resume", "End the pause…")
    : button("pause", "Pause automation…");
  const over = status.primary_node_id && !status.follows && button("switchover", "Switch over…");
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Change the cluster" },
    over,
    paused,
  );
}

function facts(status) {
  return [safety(status), behind(), quorum(status), automation(status), addresses(status)];
}

function fact(key, how, label, value, note) {
  return h(
    "div",
    { class: `fact ${how}`, "data-key": key },
    h("dt", {}, mark(how), label),
    h("dd", {}, h("b", {}, value), h("span", { class: "note" }, note)),
  );
}

function safety(status) {
  const { mode, num_sync: copies, wanted, degraded, voters } = status.synchronous;
  if (status.follows) return fact("safety", "idle", "Safety", "the remote's", "it has the writes");
  if (mode === "async")
    return fact("safety", "warn", "Safety", "1 copy", "async: a failover may lose the newest");
  const value = count(copies + 1, "copy", "copies");
  if (is_cut_off(status)) return fact("safety", "idle", "Safety", value, `${mode}, as last heard`);
  if (degraded) {
    const less = `${mode}: ${wanted + 1} are wanted`;
    return fact("safety", copies ? "warn" : "bad", "Safety", value, less);
  }
  if (!copies) return fact("safety", "warn", "Safety", value, `${mode}: no replica to wait for`);
  const whom = voters.length > copies ? `any ${copies} of ${list(voters)}` : list(voters);
  return fact("safety", "ok", "Safety", value, `${mode}: a commit waits for ${whom}`);
}

/** One that is late on purpose says nothing about the others. */
function behind() {
  const all = known.nodes.filter((one) => one.role === "replica" && !one.tags.delay_ms);
  const leads = known.nodes.find((one) => ["primary", "standby_leader"].includes(one.role));
  if (leads && !is_heard(leads))
    return fact("lag", "warn", "Lag", "–", `behind what? ${leads.name} is not heard`);
  const { follows } = known.status;
  if (follows && !follows.is_streaming)
    return fact("lag", "warn", "Lag", "–", "behind what? the remote is not heard");
  const replicas = all.filter(has_lag);
  const dark = all.filter((one) => !replicas.includes(one)).map((one) => one.name);
  if (!all.length) return fact("lag", "idle", "Lag", "–", "there is no replica");
  if (!replicas.length) return fact("lag", "warn", "Lag", "–", `not known of ${list(dark)}`);
  const worst = replicas.reduce((one, two) => (two.lag_bytes > one.lag_bytes ? two : one));
  const far = worst.lag_bytes > 16 << 20 || worst.lag_ms > 10000;
  const how = far || dark.length ? "warn" : "ok";
  const whose = worst.lag_bytes ? `${worst.name}, the furthest` : count(replicas.length, "replica");
  const note = dark.length ? `${whose}; not known of ${list(dark)}` : whose;
  const late = worst.lag_ms ? `, ${duration(worst.lag_ms)}` : "";
  return fact("lag", how, "Lag", `${bytes(worst.lag_bytes)}${late}`, note);
}

function quorum(status) {
  const all = status.raft_voters;
  const heard = known.nodes.filter((one) => all.includes(one.name) && is_heard(one));
  const spare = heard.length - (Math.floor(all.length / 2) + 1);
  const value = `${heard.length} of ${all.length}`;
  if (!status.has_quorum)
    return fact(
      "quorum",
      "bad",
      "Quorum",
      "none",
      `${known.me?.node || "this node"} hears no leader`,
    );
  const note = spare > 0 ? `${spare} more may be lost` : "none may be lost";
  return fact("quorum", spare > 0 ? "ok" : "warn", "Quorum", value, note);
}

function automation(status) {
  const label = "Failover";
  if (status.paused) {
    const until = status.pause?.until;
    const note = until ? `ends in ${age(Date.parse(until) - node_now())}` : "until it is resumed";
    return fact("automation", "warn", label, "paused", note);
  }
  if (!status.auto_failover_enabled)
    return fact("automation", "warn", label, "off", "failover.enabled is false");
  if (!status.has_quorum)
    return fact("automation", "bad", label, "impossible", "nobody is elected without a quorum");
  const is_normal = status.failover_state === "normal";
  const note = is_normal ? "watching" : status.failover_state;
  return fact("automation", is_normal ? "ok" : "warn", label, "automatic", note);
}

function addresses(status) {
  if (status.vips.length) {
    const bad = status.vips.find((one) => !one.vip_owner);
    const { address, owners } = bad || status.vips[0];
    const more = status.vips.length > 1 ? `, one of ${status.vips.length} addresses` : "";
    const has = owners.length > 1 ? "have" : "has";
    const value = list(owners) || "nobody";
    return fact("way", bad ? "bad" : "ok", "Address", value, `${has} ${address}${more}`);
  }
  const found = known.proxies?.proxies;
  if (!found) return fact("way", "idle", "Clients", "–", "not known yet");
  if (!found.length) return fact("way", "idle", "Clients", "–", "no node has a proxy");
  const sessions = found.reduce((sum, one) => sum + (one.active_connections || 0), 0);
  const held = found.reduce((sum, one) => sum + (one.held || 0), 0);
  const away = found.filter((one) => !one.proxy_healthy).map((one) => one.node);
  const in_all = `${count(sessions, "session")} in all`;
  if (held) return fact("way", "warn", "Clients", `${held} held`, in_all);
  const note = away.length ? `proxy of ${list(away)} is away` : "none is held";
  return fact("way", away.length ? "warn" : "ok", "Clients", count(sessions, "session"), note);
}

/** What is wrong, and what will not survive the next loss: in the node's own sentences. */
export function attention() {
  const { warnings } = known.status;
  const worst = (text) => text.startsWith("split brain");
  const problems = [...known.status.problems].sort((one, two) => worst(two) - worst(one));
  if (!problems.length && !warnings.length) return null;
  const row = (how, text) =>
    h("li", { class: how, "data-key": text }, mark(how), h("span", {}, said(text)));
  return h(
    "section",
    { class: "attention", "data-key": "attention", "aria-labelledby": "attention-title" },
    h("h2", { id: "attention-title" }, "What needs attention"),
    h(
      "ul",
      {},
      problems.map((text) => row("bad", text)),
      warnings.map((text) => row("warn", text)),
    ),
  );
}
