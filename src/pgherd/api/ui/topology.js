// The drawing of who streams from whom, and where clients come in.
//
// Owns the layout: from left to right on a wide page (proxies, primary, replicas, replicas of
// replicas), from top to bottom on a narrow one. Each node is a button that opens its details; the
// table of nodes says the same in words.

import { h, s } from "./dom.js";
import { count, fit, how, lag, middle, role } from "./words.js";
import { known } from "./watch.js";

const BOX = { width: 204, height: 78 };
const BOX_LEAST = 150;
const BETWEEN = 48;
const DOOR = { width: 136, height: 46 };
const GAP = 18;
const LABEL_ROOM = 90;
const LEADS = ["primary", "standby_leader"];
const TOP = 34;
const NARROW = 560;

export function topology(width) {
  const narrow = width < NARROW || box_width(width) < BOX_LEAST;
  const plan = narrow ? upright(width) : lying(width);
  const label = `Topology: ${described()}`;
  return h(
    "section",
    { class: "topology", "data-key": "topology", "aria-labelledby": "topology-title" },
    h("h2", { id: "topology-title" }, "Topology"),
    s(
      "svg",
      {
        role: "group",
        "aria-label": label,
        viewBox: `0 0 ${width} ${plan.height}`,
        width,
        height: plan.height,
        class: narrow ? "drawing narrow" : "drawing",
      },
      plan.parts,
    ),
    legend(),
  );
}

function legend() {
  const line = (kind, text) =>
    h(
      "li",
      {},
      s(
        "svg",
        { viewBox: "0 0 30 8", "aria-hidden": "true" },
        s("path", { d: "M1 4h28", class: `edge ${kind}` }),
      ),
      text,
    );
  return h(
    "ul",
    { class: "legend" },
    line("sync", "commits wait for it"),
    line("async", "commits do not wait"),
    line("cut", "does not stream"),
  );
}

function described() {
  const primary = known.nodes.find((one) => one.is_primary);
  const replicas = known.nodes.filter((one) => one.role === "replica");
  const streams = replicas.filter((one) => one.state === "streaming").length;
  return `${primary ? `primary ${primary.name}` : "no primary"}, ${streams} of ${count(
    replicas.length,
    "replica",
  )} stream`;
}

/** Who stands in which column: depth 0 leads, the others as far as their WAL has come. */
function columns() {
  const by_name = new Map(known.nodes.map((one) => [one.name, one]));
  const data = known.nodes.filter((one) => !["witness", "proxy"].includes(one.role));
  const led = data.some((one) => LEADS.includes(one.role));
  const depth = (node, seen = new Set()) => {
    if (LEADS.includes(node.role)) return 0;
    const up = by_name.get(node.upstream);
    if (!led || !up || seen.has(node.name)) return 1;
    seen.add(node.name);
    return Math.min(1 + depth(up, seen), 3);
  };
  const found = [[], [], [], []];
  for (const node of data) found[depth(node)].push(node);
  found.slice(2).forEach((level, at) => beside_their_upstream(level, found[at + 1]));
  const witnesses = known.nodes.filter((one) => one.role === "witness");
  return { levels: found.filter((one, at) => at < 2 || one.length), witnesses };
}

/** In the order of those that they stream from, so that lines do not cross. */
function beside_their_upstream(level, before) {
  const place = (node) => before.findIndex((one) => one.name === node.upstream);
  level.sort((one, two) => place(one) - place(two));
}

// --- wide ----------------------------------------------------------------------------------------

/** How wide boxes may be so that all columns have room beside each other. */
function box_width(width) {
  const columns_there = columns().levels.length;
  const doors = known.proxies?.proxies.length ? DOOR.width + BETWEEN : 0;
  const left = width - 2 - doors - (columns_there - 1) * BETWEEN;
  return Math.min(BOX.width, Math.floor(left / columns_there));
}

function lying(width) {
  const { levels, witnesses } = columns();
  const doors = known.proxies?.proxies || [];
  const box = { width: box_width(width), height: BOX.height };
  const last = [...levels[levels.length - 1], ...witnesses];
  const shown = [...levels.slice(0, -1), last];
  const tall = Math.max(...shown.map((one) => one.length || 1)) * (BOX.height + GAP) - GAP;
  const inner = Math.max(tall, doors.length * (DOOR.height + GAP) - GAP, BOX.height);
  const height = TOP + inner + 6;
  const left = doors.length ? DOOR.width + 1 : 1;
  const gaps = shown.length - (doors.length ? 0 : 1);
  const gap = gaps ? (width - left - 1 - shown.length * box.width) / gaps : 0;
  const first = doors.length ? left + gap : left;
  const stride = box.width + gap;
  const places = new Map();
  shown.forEach((column, at) => {
    spread(column, inner, BOX.height).forEach((y, index) => {
      places.set(column[index].name, { x: first + at * stride, y, ...box });
    });
  });
  if (!levels[0].length) places.set("", { x: first, y: TOP + (inner - box.height) / 2, ...box });
  const ways = new Map();
  spread(doors, inner, DOOR.height).forEach((y, index) => {
    ways.set(doors[index].node, { x: 1, y, ...DOOR });
  });
  const titles = ["Primary", "Replicas", "Their replicas", "Further"];
  if (known.status.follows) titles[0] = "Standby leader";
  const headings = shown.map((_, at) => heading(first + at * stride, titles[at]));
  if (doors.length) headings.unshift(heading(1, "Clients come in by"));
  const edges = [...streams(places, across), ...sessions(doors, ways, places)];
  return {
    height,
    parts: [edges, headings, doors.map((one) => door(one, ways.get(one.node))), boxes(places)],
  };
}

function spread(column, inner, each) {
  const taken = column.length * (each + GAP) - GAP;
  const begin = TOP + (inner - taken) / 2;
  return column.map((_, index) => begin + index * (each + GAP));
}

function heading(x, text) {
  return s("text", { x, y: 14, class: "column" }, text);
}

function across(from, to) {
  const [x1, y1] = [from.x + from.width, from.y + from.height / 2];
  const [x2, y2] = [to.x, to.y + to.height / 2];
  const bend = (x2 - x1) / 2;
  return {
    path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`,
    label: x2 - x1 > LABEL_ROOM && { x: x2 - 8, y: y2 - 7, "text-anchor": "end" },
  };
}

// --- narrow --------------------------------------------------------------------------------------

function upright(width) {
  const { levels, witnesses } = columns();
  const places = new Map();
  const indent = 26;
  let y = 4;
  const doors = known.proxies?.proxies || [];
  const parts = [];
  if (doors.length) {
    const sum = (name) => doors.reduce((all, one) => all + (one[name] || 0), 0);
    const held = sum("held") ? `, ${sum("held")} held` : "";
    const open = count(sum("active_connections"), "session");
    const text = `${open} by ${count(doors.length, "proxy", "proxies")}${held}`;
    parts.push(s("text", { x: 2, y: 16, class: "column" }, text));
    parts.push(s("path", { d: `M18 22V34`, class: "edge way" }));
    y = 34;
  }
  if (!levels[0].length) {
    places.set("", { x: 1, y, width: width - 2, height: BOX.height });
    y += BOX.height + GAP;
  }
  const place = (node, level) => {
    if (places.has(node.name)) return;
    const x = 1 + level * indent;
    places.set(node.name, { x, y, width: width - x - 1, height: BOX.height });
    y += BOX.height + GAP;
    for (const below of known.nodes)
      if (below.upstream === node.name && below.role === "replica") place(below, level + 1);
  };
  levels[0].forEach((one) => place(one, 0));
  levels.flat().forEach((one) => place(one, 1));
  witnesses.forEach((one) => place(one, 0));
  const edges = streams(places, downwards);
  return { height: y, parts: [edges, parts, boxes(places)] };
}

function downwards(from, to) {
  const [x1, y1] = [from.x + 12, from.y + from.height];
  const y2 = to.y + to.height / 2;
  return { path: `M${x1} ${y1}V${y2}H${to.x}`, label: null };
}

// --- parts ---------------------------------------------------------------------------------------

function streams(places, way) {
  const leader = known.nodes.find((one) => LEADS.includes(one.role));
  return known.nodes
    .filter((one) => one.role === "replica")
    .map((node) => {
      const from = places.get(node.upstream) || places.get(leader?.name ?? "");
      const to = places.get(node.name);
      if (!from || !to || from === to) return null;
      const kind = node.state !== "streaming" ? "cut" : node.is_sync ? "sync" : "async";
      const { path, label } = way(from, to);
      const text = kind === "cut" ? "" : node.is_sync ? "sync" : "async";
      return s(
        "g",
        { "data-key": `edge-${node.name}`, "aria-hidden": "true" },
        s("path", { d: path, class: `edge ${kind}` }),
        label && text && s("text", { ...label, class: "edge-label" }, text),
      );
    });
}

function sessions(doors, ways, places) {
  const leader = known.nodes.find((one) => LEADS.includes(one.role));
  return doors.flatMap((one) => {
    const open = Object.keys(one.by_backend).filter((name) => one.by_backend[name]);
    const goals = new Set(open.length ? open : [leader?.name]);
    return [...goals]
      .map((name) => places.get(name))
      .filter((to) => to && !one.problem)
      .map((to) => {
        const { path } = across(ways.get(one.node), to);
        const used = open.length ? "way used" : "way";
        return s("path", { d: path, class: `edge ${used}`, "aria-hidden": "true" });
      });
  });
}

function door(one, at) {
  const bad = one.problem || !one.proxy_healthy;
  const state = bad ? "bad" : one.held ? "warn" : "ok";
  const said = one.problem || count(one.active_connections, "session");
  const held = one.held ? `, ${one.held} held` : "";
  const short = one.problem
    ? "no answer"
    : bad
      ? "not well"
      : one.held
        ? `${one.held} held, ${one.active_connections} open`
        : said;
  return s(
    "g",
    {
      class: `door ${state}`,
      "data-key": `door-${one.node}`,
      role: "img",
      "aria-label": `proxy of ${one.node}: ${said}${held}`,
    },
    s("title", {}, `proxy of ${one.node}: ${said}${held}`),
    s("rect", { x: at.x, y: at.y, width: at.width, height: at.height, rx: 23 }),
    s("text", { x: at.x + 20, y: at.y + 20, class: "name" }, middle(one.node, 104, 7.6)),
    s("text", { x: at.x + 20, y: at.y + 36, class: "line" }, fit(short, 112, 6.6)),
  );
}

function boxes(places) {
  const parts = known.nodes
    .filter((one) => places.has(one.name))
    .map((one) => box(one, places.get(one.name)));
  if (places.has("")) parts.unshift(nobody(places.get("")));
  return parts;
}

function nobody(at) {
  const { phase, epoch } = known.status;
  return s(
    "g",
    { class: "node ghost", "data-key": "node-" },
    s("rect", { x: at.x, y: at.y, width: at.width, height: at.height, rx: 6 }),
    s("text", { x: at.x + 16, y: at.y + 33, class: "name" }, "no primary"),
    s("text", { x: at.x + 16, y: at.y + 54, class: "line" }, `epoch ${epoch} is ${phase}`),
  );
}

function marks(node) {
  const status = known.status;
  const found = node.is_primary ? [`epoch ${status.epoch}`] : [];
  if (node.maintenance) found.push("maintenance");
  if (status.raft_leader === node.name) found.push("Raft leader");
  for (const vip of status.vips) if (vip.vip_owner === node.name) found.push(vip.address);
  if (node.role === "witness") found.push("votes, holds no data");
  else if (!node.is_voter && node.role !== "proxy") found.push("no vote");
  if (node.zone) found.push(node.zone);
  return found.join(" · ");
}

function box(node, at) {
  const leads = node.is_primary;
  const state =
    node.progress_percent !== null ? `${node.state} ${node.progress_percent}%` : node.state;
  const right = leads ? "primary" : role(node);
  const third = node.role === "witness" ? "" : leads ? node.lsn : `lag ${lag(node)}`;
  const said = [
    node.name,
    right,
    state,
    node.role === "replica" ? `lag ${lag(node)}` : "",
    marks(node),
  ];
  const inner = at.width - 32;
  const right_room = right.length * 6.8 + 10;
  const shows_role = node.name.length * 9 + right_room <= inner;
  return s(
    "g",
    {
      class: `node ${how(node)}${leads ? " leads" : ""}${node.role === "witness" ? " ghost" : ""}`,
      "data-key": `node-${node.name}`,
      "data-act": "node",
      "data-name": node.name,
      role: "button",
      tabindex: 0,
      "aria-haspopup": "dialog",
      "aria-label": said.filter(Boolean).join(", "),
    },
    s("title", {}, said.filter(Boolean).join(", ")),
    s("rect", { x: at.x, y: at.y, width: at.width, height: at.height, rx: 6 }),
    s("path", { d: `M${at.x + 6} ${at.y + 10}v${at.height - 20}`, class: "bar" }),
    s("text", { x: at.x + 16, y: at.y + 24, class: "name" }, middle(node.name, inner, 9)),
    shows_role &&
      s(
        "text",
        { x: at.x + at.width - 14, y: at.y + 24, class: "role", "text-anchor": "end" },
        right,
      ),
    s(
      "text",
      { x: at.x + 16, y: at.y + 44, class: "line" },
      fit(`${state}${third ? `, ${third}` : ""}`, inner, 6.7),
    ),
    s("text", { x: at.x + 16, y: at.y + 63, class: "soft" }, fit(marks(node), inner, 6.5)),
  );
}
