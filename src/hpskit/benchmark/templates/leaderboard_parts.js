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

const number = (v, digits) => (v === null ? "–" : v.toFixed(digits).replace("-", "−"));
const signed = (v, digits) => (v > 0 ? "+" : "") + number(v, digits);
const percent = (v, digits = 0) => (v === null ? "–" : `${(100 * v).toFixed(digits)} %`);
const range = (low, high, digits, how = number) => (low === null ? "" : `${how(low, digits)} to ${how(high, digits)}`);
const small = (p) => (p < 0.001 ? "< 0.001" : p < 0.1 ? p.toPrecision(2) : p.toFixed(2));
const pValue = (p) => (p < 0.001 ? `p ${small(p)}` : `p = ${small(p)}`).replaceAll(" ", "\u00a0");
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const ranks = (rank) => (!rank ? "–" : rank.low === rank.high ? `${rank.low}` : `${rank.low}–${rank.high}`);

// Charts: in percent of the width, so that they fit any without scaling the type

function axisOf(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const rough = (high - low || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
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

function histogram(values, words) {
  const bins = 41, end = Math.max(...values.map(Math.abs)) || 1;
  const counts = new Array(bins).fill(0);
  for (const v of values) counts[Math.min(bins - 1, Math.floor((bins * (v + end)) / (2 * end)))] += 1;
  const most = Math.max(...counts), middle = (bins - 1) / 2;
  const bars = counts.map((n, bin) => el("rect", {
    x: `${(100 * bin) / bins}%`, width: `${92 / bins}%`, y: 122 - (112 * n) / most, height: (112 * n) / most,
    class: bin === middle ? "quoted" : bin > middle ? "c0" : "c1", fill: "currentColor",
  }));
  const ticks = [[-1, "start"], [-0.5, "middle"], [0, "middle"], [0.5, "middle"], [1, "end"]];
  return el("svg", { class: "chart histogram", role: "img", "aria-label": words }, el("title", {}, words), bars,
    el("line", { class: "axis", x1: 0, x2: "100%", y1: 122, y2: 122 }),
    ticks.map(([at, anchor]) => el("text", { x: `${50 + 50 * at}%`, y: 140, "text-anchor": anchor }, signed(at * end, 1))));
}
