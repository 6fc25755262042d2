// Calls of this node's API, and its stream of events.
//
// Owns the token: it lives in this tab's sessionStorage, goes out in a header and is never part of
// an address. An answer that is an error becomes `Refused`, no answer becomes `Unanswered`.

const KEY = "pgherd.token";
const READ_MS = 4000;
const CHANGE_MS = 90000;
const SILENCE_MS = 40000; // the node gives a sign of life every 15 s

export class Refused extends Error {
  constructor(status, said) {
    super(said.message || `the node answered with ${status}`);
    this.status = status;
    this.code = said.code || "";
    this.hint = said.hint || "";
  }
}

export class Unanswered extends Error {}

export function token() {
  try {
    return sessionStorage.getItem(KEY) || "";
  } catch {
    return "";
  }
}

export function remember(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

function headers(more, given) {
  const shown = given ?? token();
  return shown ? { ...more, Authorization: `Bearer ${shown}` } : more;
}

async function call(method, path, body, { within = READ_MS, given } = {}) {
  const asks = { method, cache: "no-store", credentials: "same-origin", redirect: "error" };
  asks.headers = headers({ Accept: "application/json" }, given);
  asks.signal = AbortSignal.timeout(within);
  if (body !== undefined) {
    asks.headers["Content-Type"] = "application/json";
    asks.body = JSON.stringify(body);
  }
  let answer, said;
  try {
    answer = await fetch(`../${path}`, asks);
    said = await answer.json();
  } catch (error) {
    if (answer && !answer.ok) throw new Refused(answer.status, {});
    throw new Unanswered(error.name === "TimeoutError" ? "no answer in time" : "no connection");
  }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

export const get = (path, more) => call("GET", path, undefined, more);
export const post = (path, body) => call("POST", path, body ?? {}, { within: CHANGE_MS });
export const del = (path) => call("DELETE", path, undefined, { within: CHANGE_MS });

/**
 * Follow the events from a place on, until the stream ends. `fetch` and not EventSource: that one
 * cannot send the token in a header. on_open: told how to hang up, once the stream is there.
 */
export async function follow(place, on_event, on_open) {
  const gone = new AbortController();
  let alarm = setTimeout(() => gone.abort(), SILENCE_MS);
  const asks = {
    headers: headers({ Accept: "text/event-stream", ...(place && { "Last-Event-ID": place }) }),
    cache: "no-store",
    redirect: "error",
    signal: gone.signal,
  };
  try {
    const answer = await fetch("../api/v1/events?follow=1", asks);
    if (!answer.ok) throw new Refused(answer.status, {});
    on_open(() => gone.abort());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(() => gone.abort(), SILENCE_MS);
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) on_event(message(part));
    }
  } finally {
    clearTimeout(alarm);
  }
}

/** One message of server-sent events; the node sends data in one line. */
function message(text) {
  const found = { kind: "", place: null, data: null };
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) found.kind = line.slice(7);
    else if (line.startsWith("id: ")) found.place = line.slice(4);
    else if (line.startsWith("data: ")) found.data = JSON.parse(line.slice(6));
  }
  return found;
}
