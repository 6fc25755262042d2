// Numbers, times and states in words. Pure.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let left = number;
  let unit = 0;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit && left < 10 ? left.toFixed(1) : Math.round(left)} ${UNITS[unit]}`;
}

/** 0.31 s, 42 s, 5 min, 3 h 12 min, 4 d 6 h. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const days = Math.floor(hours / 24);
  return `${days} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

/** As `duration`, in whole seconds: for what is shown anew every second. */
export function age(ms) {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  return seconds < 60 ? `${seconds} s` : duration(ms);
}

export function time(iso, { seconds = true, day = "auto" } = {}) {
  if (!iso) return "–";
  const at = new Date(iso);
  const today = new Date().toDateString() === at.toDateString();
  const with_day = day === "always" || (day === "auto" && !today);
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (seconds) clock.second = "2-digit";
  const told = at.toLocaleTimeString("en-GB", clock);
  const date = at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return with_day ? `${date} ${told}` : told;
}

export function zone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
}

export function count(number, one, many) {
  return `${number} ${number === 1 ? one : many || `${one}s`}`;
}

/** Names as people list them. */
export function list(names, last = "and") {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} ${last} ${names[names.length - 1]}`;
}

export function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

/** Text that has room in so many pixels, when each letter takes so many. */
export function fit(text, pixels, per_letter) {
  const most = Math.max(1, Math.floor(pixels / per_letter));
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/** The same for names: their ends tell them apart. */
export function middle(text, pixels, per_letter) {
  const most = Math.max(3, Math.floor(pixels / per_letter));
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
}

const ROLES = { standby_leader: "standby leader" };

export function role(node) {
  return ROLES[node.role] || node.role;
}

const BAD = ["unreachable", "unusable", "hung", "diverged", "stopped", "closed", "no proxy"];

/** The parameters that its server takes up at its next start. */
export function pending(node) {
  return Object.keys(node.pending_restart || {});
}

/** How a node is: ok, warn, bad, idle. */
export function how(node) {
  if (node.maintenance || node.stopped_by) return "idle";
  if (BAD.includes(node.state)) return "bad";
  if (!node.is_healthy) return "warn";
  return node.problem || pending(node).length ? "warn" : "ok";
}

/** Whether what is known of a node is what it says now. */
export function is_heard(node) {
  return !["unreachable", "unknown"].includes(node.state);
}

/** Whether its lag says how far it is now: not of one that is away, nor on a history of its own. */
export function has_lag(node) {
  return node.lag_bytes !== null && is_heard(node) && !BAD.includes(node.state);
}

export function lag(node) {
  if (!has_lag(node)) return "–";
  const late = node.lag_ms > 1000 ? `, ${duration(node.lag_ms)}` : "";
  return `${bytes(node.lag_bytes)}${late}`;
}
