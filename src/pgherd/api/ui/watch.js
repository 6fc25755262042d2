// What is known of the cluster now, how old that is, and who looks at it.
//
// Theory of operation. Every POLL_MS the node is asked; an answer counts from when it was asked
// for. `freshness` says what the page may claim: live; late, where an answer is overdue; stale,
// where what is shown may not be so any more. A hidden page asks for nothing and hangs up, and is
// stale until it has asked again. Time counts by two clocks: one of them stands still while the
// machine sleeps. Who is refused has nothing left on the page. Events come by a stream of their
// own, which goes on from the last one that came; each asks for a new look at once, for something
// has changed.

import * as api from "./api.js";
import { sentence } from "./words.js";

const POLL_MS = 2000;
const SLOW_EVERY = 3;
const LATE_MS = 5000;
const STALE_MS = 8000;
const AGAIN_MS = 2000;
const EVENTS_MAX = 300;
const HASTE_MS = 150;

const nothing = () => ({
  me: null,
  status: null,
  nodes: [],
  proxies: null,
  history: null,
  actions: [],
  events: [],
  asked_at: null,
});

export const known = {
  ...nothing(),
  trouble: "",
  refused: null,
  stream: "connecting",
  shift_ms: 0,
};

let changed = () => {};
let hasten = null;
let wake = () => {};
let hang = () => {};
let place = null;
let rounds = 0;
let polling = false;
let running = false;

/** Begin; `on_change` is called whenever something is known anew, and once a second. */
export function begin(on_change) {
  changed = on_change;
  running = true;
  setInterval(() => !document.hidden && changed(), 1000);
  setInterval(() => !document.hidden && look(), POLL_MS);
  document.addEventListener("visibilitychange", seen_or_not);
  look({ whole: true });
  listen();
}

/** Of what nobody sees nothing is asked; browsers allow six connections to a node in all tabs. */
function seen_or_not() {
  if (document.hidden) return hang();
  wake();
  return look({ whole: true });
}

export function freshness() {
  if (known.asked_at === null) return known.trouble ? "unreached" : "connecting";
  const ago = silent_ms();
  if (ago > STALE_MS) return "stale";
  return ago > LATE_MS || known.trouble ? "late" : "live";
}

/** How old what is known is: by the clock that says more. */
export function silent_ms() {
  if (known.asked_at === null) return 0;
  const { ticks, wall } = clocks();
  return Math.max(ticks - known.asked_at.ticks, wall - known.asked_at.wall);
}

function clocks() {
  return { ticks: performance.now(), wall: Date.now() };
}

/** The node's clock now: durations are told by it. What is stale grows no older on the page. */
export function node_now() {
  if (known.status && freshness() === "stale") return Date.parse(known.status.timestamp);
  return Date.now() + known.shift_ms;
}

/** A sentence of the node's, as one begins; the name of a node stays as it is. */
export function said(text) {
  const [first] = text.split(/[\s:,]/, 1);
  return known.nodes.some((one) => one.name === first) ? text : sentence(text);
}

export function since_ms(iso) {
  return iso ? node_now() - Date.parse(iso) : null;
}

export function may(role) {
  const order = ["viewer", "operator", "admin"];
  return known.me !== null && order.indexOf(known.me.role) >= order.indexOf(role);
}

/** Look again, now. */
export async function look({ whole = false } = {}) {
  if (polling || !running || (known.refused && !whole)) return;
  polling = true;
  const asked_at = clocks();
  rounds += 1;
  const slow = whole || rounds % SLOW_EVERY === 0 || known.history === null;
  try {
    if (known.me === null) {
      known.me = await api.get("api/v1/whoami");
      wake();
    }
    const [status, nodes, actions] = await Promise.all([
      api.get("api/v1/cluster/status"),
      api.get("api/v1/nodes"),
      api.get("api/v1/actions"),
    ]);
    const moved = known.status?.epoch !== status.epoch || known.status?.phase !== status.phase;
    Object.assign(known, { status, nodes: nodes.nodes, actions: actions.actions });
    known.shift_ms = Date.parse(status.timestamp) - Date.now();
    known.asked_at = asked_at;
    known.trouble = "";
    known.refused = null;
    changed();
    if (slow || moved) await look_slowly();
  } catch (error) {
    failed(error);
  } finally {
    polling = false;
    changed();
  }
}

const SLOW = {
  me: "api/v1/whoami", // an address that moves leads to another node one day, a token ends
  proxies: "api/v1/proxies",
  history: "api/v1/history?limit=500",
};

/** What costs more, or changes seldom; each may fail without the others. */
async function look_slowly() {
  const found = Object.entries(SLOW).map(async ([name, path]) => {
    try {
      known[name] = await api.get(path);
    } catch (error) {
      if (error instanceof api.Refused && error.status === 401) throw error;
      if (name === "proxies") known.proxies = null; // counts of sessions have no age to be told by
    }
  });
  await Promise.all(found);
}

function failed(error) {
  if (error instanceof api.Refused && (error.status === 401 || error.status === 403)) {
    forget();
    known.refused = error;
    return;
  }
  known.trouble = error.message;
}

async function listen() {
  for (;;) {
    if (known.refused === null && known.me !== null && !document.hidden) {
      try {
        if (place === null) await catch_up();
        await api.follow(place, told, (hang_up) => {
          hang = hang_up;
          if (document.hidden) return hang();
          known.stream = "live";
          return changed();
        });
      } catch (error) {
        if (error instanceof api.Refused && error.status === 422) place = null;
      }
      known.stream = "broken";
      changed();
    }
    await new Promise((done) => {
      wake = done;
      setTimeout(done, AGAIN_MS);
    });
  }
}

/** The newest of what was before, so that the list does not begin empty. */
async function catch_up() {
  const found = await api.get("api/v1/events?follow=0&limit=150");
  known.events = found.events.reverse();
  place = found.place;
  changed();
}

function told({ kind, place: at, data }) {
  if (at) place = at;
  if (kind === "lost") place = null; // the list is asked for anew
  if (!data || !data.id) return;
  if (known.events.some((one) => one.id === data.id)) return;
  known.events.unshift(data);
  known.events.length = Math.min(known.events.length, EVENTS_MAX);
  changed();
  clearTimeout(hasten);
  hasten = setTimeout(() => look({ whole: data.kind.startsWith("primary.") }), HASTE_MS);
}

/** Begin as somebody else; raises what the node says of the token. */
export async function enter(value) {
  const me = await api.get("api/v1/whoami", { given: value });
  api.remember(value);
  Object.assign(known, { me, refused: null, trouble: "" });
  wake();
  await look({ whole: true });
}

export function leave() {
  api.remember("");
  forget();
  look({ whole: true });
}

/** What one may see, another may not; and what comes next begins anew. */
function forget() {
  hang();
  Object.assign(known, nothing());
  place = null;
}
