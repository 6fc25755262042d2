// What a person may change here, each with its plan first: switchover, pause, maintenance, work.

import * as api from "./api.js";
import * as dialogs from "./dialogs.js";
import { button, h, mark } from "./dom.js";
import { address, token_field } from "./frame.js";
import { age, bytes, duration, how, is_heard, lag, pending, role, time } from "./words.js";
import { enter, freshness, known, look, may, said, since_ms } from "./watch.js";

const FOR = [
  ["30m", "30 minutes"],
  ["2h", "2 hours"],
  ["8h", "8 hours"],
  ["", "until somebody ends it"],
];

// --- switchover ----------------------------------------------------------------------------------

export function switchover(wanted = "") {
  const plan = { found: null, candidate: wanted };
  dialogs.open({
    title: "Switch over",
    plan,
    load: () => ask_plan(plan, true),
    body: () =>
      plan.found ? switchover_body(plan) : h("p", { class: "soft" }, "Asking who could…"),
    actions: () =>
      plan.found?.ok
        ? [
            button("carry-out", `Switch over to ${plan.found.new_primary}`, {
              class: "main",
              "data-first": true,
            }),
          ]
        : [],
    carry_out: () =>
      is_of_now(plan)
        ? dialogs.run(`Switching over to ${plan.found.new_primary}…`, () => switch_over(plan))
        : dialogs.run("", () => ask_anew(plan), { quiet: true }),
    changed: (name, value) => {
      if (name !== "candidate") return;
      plan.candidate = value;
      dialogs.run("", () => ask_plan(plan), { quiet: true });
    },
  });
}

async function ask_plan(plan, first) {
  const body = plan.candidate ? { candidate: plan.candidate } : {};
  plan.found = await api.post("api/v1/cluster/switchover/plan", body);
  plan.candidate = plan.found.new_primary || plan.candidate;
  if (first) setTimeout(() => document.querySelector("#dialog [data-first]")?.focus());
}

/** Whether the primary is still the one that the plan is about. */
function is_of_now(plan) {
  return plan.found.epoch >= known.status.epoch;
}

async function ask_anew(plan) {
  plan.candidate = "";
  await ask_plan(plan);
  plan.note = `The primary has changed meanwhile: this is the plan for epoch ${plan.found.epoch}.`;
}

function switchover_body(plan) {
  const { found } = plan;
  const took =
    found.last_took_ms === null ? "" : `The last one took ${duration(found.last_took_ms)}.`;
  return [
    plan.note &&
      h("p", { class: "trouble", role: "alert" }, mark("warn"), h("span", {}, plan.note)),
    h(
      "fieldset",
      { class: "candidates" },
      h("legend", {}, `Who takes over from ${found.old_primary || "nobody"}`),
      found.candidates.map((one) => candidate(one, plan)),
    ),
    found.ok
      ? [
          h("h3", {}, "What happens then"),
          h(
            "ol",
            { class: "steps" },
            found.steps.map((text) => h("li", {}, said(text))),
          ),
          took && h("p", { class: "soft" }, took),
        ]
      : h(
          "p",
          { class: "trouble", role: "alert" },
          mark("bad"),
          h("span", {}, said(found.why_not)),
        ),
  ];
}

function candidate(one, plan) {
  const note = one.fits
    ? `${one.is_sync ? "synchronous" : "asynchronous"}, ${bytes(one.lag_bytes)} behind`
    : one.why_not;
  return h(
    "label",
    { class: one.fits ? "candidate" : "candidate unfit", "data-key": one.node },
    h("input", {
      type: "radio",
      name: "candidate",
      value: one.node,
      checked: one.node === plan.candidate,
      disabled: !one.fits,
    }),
    h("b", {}, one.node),
    h("span", { class: "note" }, note),
  );
}

async function switch_over(plan) {
  const body = { candidate: plan.found.new_primary };
  const done = await api.post("api/v1/cluster/switchover?wait=60", body);
  look({ whole: true });
  return `${done.new_primary} leads epoch ${done.epoch}, after ${duration(done.duration_ms)}.`;
}

// --- pause ---------------------------------------------------------------------------------------

export function pause() {
  dialogs.open({
    title: "Pause automation",
    body: () => [
      h("h3", {}, "What it means"),
      h(
        "ul",
        { class: "steps" },
        h(
          "li",
          {},
          "Nobody fails over: if the primary is lost, writes wait until somebody ends the pause.",
        ),
        h("li", {}, "Nothing is repaired by itself; what runs goes on as it is, and commits too."),
        h("li", {}, "It is kept by the cluster and survives restarts of all nodes."),
      ),
      dialogs.choice_field("until", "For how long", FOR),
      dialogs.text_field("reason", "Why", "Shown to everybody who looks."),
    ],
    actions: () => [button("carry-out", "Pause", { class: "main" })],
    carry_out: () =>
      dialogs.run("Pausing…", async () => {
        const until = dialogs.field("until");
        const body = { reason: dialogs.field("reason"), ...(until && { until }) };
        const { pause: found } = await api.post("api/v1/cluster/pause", body);
        await look();
        return found?.until ? `Paused until ${time(found.until)}.` : "Paused.";
      }),
  });
}

export function resume() {
  const { pause: found } = known.status;
  dialogs.open({
    title: "End the pause",
    body: () => [
      found &&
        h("p", {}, `Paused by ${found.requested_by} at ${time(found.since)}${why(found.reason)}.`),
      h(
        "p",
        {},
        "The cluster fails over and repairs by itself again, what is broken now included.",
      ),
    ],
    actions: () => [button("carry-out", "End the pause", { class: "main", "data-first": true })],
    carry_out: () =>
      dialogs.run("Ending the pause…", async () => {
        await api.post("api/v1/cluster/resume");
        await look();
        return "The pause is over.";
      }),
  });
}

// --- maintenance ---------------------------------------------------------------------------------

export function maintenance(name) {
  const node = known.nodes.find((one) => one.name === name);
  if (node?.maintenance) return end_maintenance(node);
  const plan = { found: null };
  const body = () => [
    h("p", {}, `Commits, new sessions and elections do without ${name} where they can.`),
    plan.found && [h("h3", {}, "What was looked at"), dialogs.checks(plan.found.checks)],
    plan.found &&
      !plan.found.ok &&
      h(
        "p",
        { class: "trouble" },
        mark("warn"),
        h("span", {}, "Not all is well; it can be done all the same."),
      ),
    dialogs.choice_field("until", "For how long", FOR),
    dialogs.text_field("reason", "Why", "Shown to everybody who looks."),
    h(
      "p",
      { class: "field tick" },
      h(
        "label",
        {},
        h("input", { type: "checkbox", name: "allow" }),
        " It may become the primary all the same",
      ),
    ),
  ];
  return dialogs.open({
    title: `Maintenance of ${name}`,
    body,
    load: async () => {
      plan.found = await api.post(`api/v1/nodes/${encodeURIComponent(name)}/maintenance/plan`);
    },
    actions: () =>
      plan.found ? [button("carry-out", `Begin maintenance of ${name}`, { class: "main" })] : [],
    carry_out: () =>
      dialogs.run("Asking for maintenance…", () => {
        const until = dialogs.field("until");
        const wish = {
          enabled: true,
          reason: dialogs.field("reason"),
          allow_failover: dialogs.ticked("allow"),
        };
        return maintain(name, until ? { ...wish, until } : wish);
      }),
  });
}

function end_maintenance(node) {
  const { requested_by: who, since, reason } = node.maintenance;
  dialogs.open({
    title: `End maintenance of ${node.name}`,
    body: () => [
      h("p", {}, `Begun by ${who} at ${time(since)}${why(reason)}.`),
      h(
        "p",
        {},
        `Commits, sessions and elections count on ${node.name} again once it has caught up.`,
      ),
    ],
    actions: () => [button("carry-out", "End maintenance", { class: "main", "data-first": true })],
    carry_out: () =>
      dialogs.run("Ending maintenance…", () => maintain(node.name, { enabled: false })),
  });
}

async function maintain(name, wish) {
  const found = await api.post(`api/v1/nodes/${encodeURIComponent(name)}/maintenance`, wish);
  await look();
  if (!wish.enabled) return `${name} takes part again.`;
  return found.action
    ? `${name} goes into maintenance; commits let go of it soon.`
    : `${name} is in maintenance.`;
}

// --- work ----------------------------------------------------------------------------------------

export function cancel(id, what) {
  dialogs.open({
    title: `Cancel: ${what}`,
    body: () => h("p", {}, "It ends now, or after the node that it has in hand."),
    actions: () => [button("carry-out", "Cancel it", { class: "main", "data-first": true })],
    carry_out: () =>
      dialogs.run("Cancelling…", async () => {
        const found = await api.del(`api/v1/actions/${encodeURIComponent(id)}`);
        await look();
        return `${said(found.what)}: ${found.state}.`;
      }),
  });
}

// --- one node ------------------------------------------------------------------------------------

export function details(name) {
  const found = { explained: null };
  dialogs.open({
    title: name,
    broad: true,
    load: async () => {
      found.explained = await api.get(`api/v1/explain/${encodeURIComponent(name)}`);
    },
    body: () => {
      const node = known.nodes.find((one) => one.name === name);
      return node ? node_body(node, found.explained) : h("p", {}, "It is no member any more.");
    },
    actions: () => {
      const node = known.nodes.find((one) => one.name === name);
      if (!node || !may("operator") || freshness() === "stale" || !node.lsn) return [];
      const over = node.role === "replica" && !known.status.follows;
      return [
        over && button("switchover", "Make it the primary…", { "data-to": name }),
        button("maintenance", node.maintenance ? "End maintenance…" : "Maintenance…", {
          "data-name": name,
        }),
      ];
    },
  });
}

function node_body(node, explained) {
  const rows = [
    ["State", [mark(how(node)), said(node.state), node.state_reason && `: ${node.state_reason}`]],
    [
      "Role",
      node.role === "replica"
        ? `${role(node)}, ${node.is_sync ? "commits wait for it" : "commits do not wait for it"}`
        : role(node),
    ],
    node.problem && ["Problem", node.problem],
    node.doing && [
      "Doing",
      node.progress_percent === null ? node.doing : `${node.doing}, ${node.progress_percent}%`,
    ],
    node.role === "replica" && ["Lag", lag(node)],
    node.upstream && [
      "Streams from",
      node.upstream_reason ? `${node.upstream} (${node.upstream_reason})` : node.upstream,
    ],
    node.lsn && [
      "WAL",
      h(
        "span",
        { class: "figures" },
        `${node.lsn}, timeline ${node.timeline}, epoch ${node.epoch ?? "–"}`,
      ),
    ],
    [
      "Address",
      h(
        "span",
        { class: "figures" },
        `${node.host}, PostgreSQL ${node.postgresql_port || "–"}, API ${node.api_port}`,
      ),
    ],
    ["Versions", `PostgreSQL ${node.postgresql_version || "–"}, pgherd ${node.version || "–"}`],
    ["Agent", is_heard(node) ? `up for ${up(node)}, ${heard(node)}` : heard(node)],
    pending(node).length && ["Waits for a restart", pending(node).join(", ")],
    node.maintenance && [
      "Maintenance",
      `by ${node.maintenance.requested_by}: ${node.maintenance.reason || "no reason given"}`,
    ],
    ["Tags", tags(node)],
    explained &&
      !explained.is_primary &&
      node.lsn && [
        "By switchover",
        explained.can_switch_over ? "It could take over now." : said(explained.why_not_switchover),
      ],
    explained &&
      node.lsn && [
        "By election",
        explained.can_be_elected ? "It could be elected now." : said(explained.why_not_elected),
      ],
  ];
  return [
    h(
      "dl",
      { class: "details" },
      rows.filter(Boolean).map(([term, told]) => [h("dt", {}, term), h("dd", {}, told)]),
    ),
    node.name !== known.me?.node &&
      h("p", {}, h("a", { href: address(node) }, `The dashboard of ${node.name}`)),
  ];
}

function up(node) {
  return age(node.uptime_seconds * 1000);
}

function heard(node) {
  return node.last_seen ? `heard ${age(since_ms(node.last_seen))} ago` : "never heard";
}

function why(reason) {
  return reason ? `: ${reason}` : "";
}

function tags(node) {
  const {
    failover_priority: priority,
    labels,
    delay_ms: delay,
    replicatefrom,
    ...flags
  } = node.tags;
  const found = Object.keys(flags).filter((name) => flags[name]);
  found.push(`priority ${priority}`);
  if (delay) found.push(`delayed by ${duration(delay)}`);
  if (replicatefrom) found.push(`replicatefrom ${replicatefrom}`);
  for (const [name, value] of Object.entries(labels)) found.push(`${name}=${value}`);
  if (node.zone) found.push(`zone ${node.zone}`);
  return found.join(", ");
}

// --- way in --------------------------------------------------------------------------------------

export function sign_in() {
  dialogs.open({
    title: "Sign in",
    body: () => token_field(),
    actions: () => [button("carry-out", "Sign in", { class: "main" })],
    carry_out: () =>
      dialogs.run("Asking…", async () => {
        await enter(dialogs.field("token").trim());
        return `You are ${known.me.name}, ${known.me.role}.`;
      }),
  });
  document.getElementById("token").focus();
}
