// Elements, numbers and charts of the leaderboard. Text of others (names, prompts, settings) becomes text nodes only.

const SVG = new Set(["svg", "line", "circle", "text", "rect", "title"]);

function el(tag, attributes = {}, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...shown(children));
  return node;
}

const shown = (children) => [children].flat(Infinity).filter((child) => child || child === 0);
const title = (...words) => el("h2", { tabindex: -1 }, words);
const note = (...words) => el("p", { class: "note" }, words);
const cell = (text, kind = "num") => el("td", { class: kind }, text);
const head = (words, kind) => el("th", { scope: "col", class: kind }, words);
const facts = (rows) => el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

function table(kind, heads, rows) {
  const top = el("thead", {}, el("tr", {}, heads.map(([words, one]) => head(words, one))));
  return el("div", { class: "scroll" }, el("table", { class: kind }, top, el("tbody", {}, rows)));
}

function select(names, chosen, attributes, words = (name) => name) {
  const each = names.map((name) => el("option", { value: name, selected: name === chosen }, words(name)));
  return el("select", attributes, each);
}

// Numbers

const minus = (text) => text.replace("-", Number(text) ? "−" : "");
const number = (v, digits) => (v === null ? "–" : minus(v.toFixed(digits)));
const signed = (v, digits) => (Number(v.toFixed(digits)) > 0 ? "+" : "") + number(v, digits);
const upper = (v) => Math.floor(100 * v + 0.5 + 1e-9);
const whole = (v) => `${v < 0.5 ? 100 - upper(1 - v) : upper(v)}`; // with its rest 100; as whole in hpskit.pages
const percent = (v) => (v === null ? "–" : `${whole(v)} %`);
const range = (low, high, digits, how = number) => (low === null ? "" : `${how(low, digits)} to ${how(high, digits)}`);
const small = (p) => (p < 0.001 ? "< 0.001" : p < 0.1 ? p.toPrecision(2) : p.toFixed(2));
const pValue = (p) => (p < 0.001 ? `p ${small(p)}` : `p = ${small(p)}`).replaceAll(" ", "\u00a0");
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const ranks = (rank) => (!rank ? "–" : rank.low === rank.high ? `${rank.low}` : `${rank.low}–${rank.high}`);

// Charts: in percent of the width, so that they fit any without scaling the type

function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999);
}

function axisOf(values) {
  const low = Math.min(...values), high = Math.max(...values), step = roundStep((high - low || 1) / 4);
  const first = Math.floor(low / step + 1e-9), last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, n) => (first + n) * step);
  const end = ticks[ticks.length - 1];
  return {
    ticks,
    digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)),
    at: (v) => `${(5 + (90 * (v - ticks[0])) / (end - ticks[0])).toFixed(2)}%`,
    holds: (v) => v >= ticks[0] && v <= end,
  };
}

function labels(axis) {
  return el("svg", { class: "chart", "aria-hidden": "true" }, axis.ticks.map((tick) => [
    el("line", { class: "axis", x1: axis.at(tick), x2: axis.at(tick), y1: 18, y2: 22 }),
    el("text", { x: axis.at(tick), y: 13, "text-anchor": "middle" }, number(tick, axis.digits)),
  ]));
}

function interval(axis, v, low, high, kind, words, hollow = false) {
  const line = (x1, x2, y1, y2, one) => el("line", { class: one, x1: axis.at(x1), x2: axis.at(x2), y1, y2 });
  const rules = low === null ? [] : [[low, high, 11, 11], [low, low, 7, 15], [high, high, 7, 15]];
  return el("svg", { class: `chart ${kind}`, role: "img", "aria-label": words },
    el("title", {}, words),
    axis.ticks.map((tick) => line(tick, tick, -6, 28, tick === 0 ? "axis" : "grid")),
    rules.map((ends) => line(...ends, "rule")),
    axis.holds(v) && el("circle", { class: hollow ? "hollow" : "mark", cx: axis.at(v), cy: 11, r: 4 }));
}

// Bins of a round width, none of which reaches over 0; where the two scores are equal there is nothing to draw.
function histogram(values, mean, words) {
  const width = roundStep(Math.max(...values.map(Math.abs)) / 12), bins = new Map();
  for (const v of values) if (v) bins.set(Math.floor(v / width), (bins.get(Math.floor(v / width)) ?? 0) + 1);
  const numbers = [...bins.keys()], across = axisOf([0, width * Math.min(...numbers), width * (Math.max(...numbers) + 1)]);
  const up = axisOf([0, ...bins.values()]), y = (n) => 152 - (132 * n) / up.ticks[up.ticks.length - 1];
  const line = (kind, x1, x2, y1, y2, dash) => el("line", { class: kind, x1, x2, y1, y2, "stroke-dasharray": dash });
  const counts = up.ticks.filter((n) => Number.isInteger(n)), end = counts[counts.length - 1];
  const bars = [...bins].map(([bin, n]) => el("rect", {
    x: across.at(bin * width), y: y(n), height: 152 - y(n), class: bin < 0 ? "c1" : "c0", fill: "currentColor",
    width: `${parseFloat(across.at((bin + 0.92) * width)) - parseFloat(across.at(bin * width))}%`}));
  return el("svg", { class: "chart histogram", role: "img", "aria-label": words }, el("title", {}, words),
    counts.map((n) => [line("grid", 0, "100%", y(n), y(n)),
      n > 0 && el("text", { x: 0, y: y(n) - 4 }, n === end ? count(n, "prompt") : n.toLocaleString("en"))]),
    bars, line("axis", across.at(0), across.at(0), 20, 156), line("rule", across.at(mean), across.at(mean), 14, 152, "4 3"),
    across.ticks.map((v) => el("text", { x: across.at(v), y: 170, "text-anchor": "middle" }, signed(v, across.digits))),
    el("text", { x: across.at((across.ticks[0] + across.ticks[across.ticks.length - 1]) / 2), y: 188,
      "text-anchor": "middle" }, "difference, points"));
}
