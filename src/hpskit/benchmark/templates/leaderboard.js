// What only a browser can do: show the part of the page that the address after # names, sort, filter, put two models side
// by side, open prompts. Tables, axes and figures come with the page. Text of others becomes text nodes and nothing else.

const D = JSON.parse(document.getElementById("data").textContent); // see leaderboard_page.py
const MODEL = new Map(D.models.map((one) => [one.name, one]));
const ROW = new Map(D.places.map((place, row) => [place, row]));
const PARTS = ["view", "scorer", "category", "model", "shared"]; // an element with data-KEY is shown where the state has its value
const VIEWS = { board, compare, model, prompts, prompt };
const COLOURS = { open: "quoted", up: "c0", down: "c1" };
const PAGE = 60;
const MANY = 40; // models from which on the table of every two is made when it is asked for
const visible = (selector) => [...document.querySelectorAll(selector)].filter((one) => !one.closest("[hidden]"));
const flat = (children) => children.flat(9).filter((one) => one || one === 0);
const fill = (name, ...children) => visible(`[data-fill=${name}]`).forEach((one) => one.replaceChildren(...flat(children)));
const minus = (text) => text.replace("-", Number(text) ? "−" : "");
const count = (n) => `${n.toLocaleString("en")} prompt${n === 1 ? "" : "s"}`;

function el(tag, attributes, ...children) {
  const svg = ["rect", "line"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...flat(children));
  return node;
}

// Figures, as hpskit.pages.format writes them

const number = (value, digits) => minus(value.toFixed(digits));
const signed = (value, digits) => (value > 0 && Number(value.toFixed(digits)) ? "+" : "") + number(value, digits);
const decimals = (low, high) => (high > low ? Math.min(6, Math.max(2, -Math.floor(Math.log10(high - low)))) : 2);
const two = (p) => { // two figures, without the power of ten
  const text = p.toPrecision(2);
  return text.includes("e") ? p.toFixed(1 - Math.floor(Math.log10(p))) : text;
};
const pWords = (p) => (p < 0.001 ? "p < 0.001" : `p = ${p >= 0.1 ? p.toFixed(2) : two(p)}`);
const whole = (share) => { // such that a share and its rest are 100 together
  const larger = Math.floor(100 * Math.max(share, 1 - share) + 0.5 + 1e-9);
  return share >= 0.5 ? larger : 100 - larger;
};

function winInterval(rate, tied, prompts, z2) { // as _win_interval of hpskit.stats.comparison
  const middle = (2 * prompts * rate + z2) / 2;
  const root = Math.sqrt(Math.max(0, z2 * (4 * prompts * rate * (1 - rate) + z2 - tied * (prompts + z2)))) / 2;
  return [Math.max(0, (middle - root) / (prompts + z2)), Math.min(1, (middle + root) / (prompts + z2))];
}

// What is known of two models of a board, by their places on it: the first less the second; null if they share too little

function difference(b, scope, one, other) {
  const up = one < other, own = scope.differences[Math.max(one, other)]?.[Math.min(one, other)];
  if (!own) return null;
  const [value, low, high, p, wins, losses, can, prompts = scope.prompts] = own; // less of the lower on the board
  const rate = (wins + (prompts - wins - losses) / 2) / prompts;
  const [winLow, winHigh] = winInterval(rate, (prompts - wins - losses) / prompts, prompts, scope.z2);
  const d = up ? { value, low, high, won: wins, lost: losses, rate, from: winLow, to: winHigh }
    : { value: -value, low: -high, high: -low, won: losses, lost: wins, rate: 1 - rate, from: 1 - winHigh, to: 1 - winLow };
  const equal = prompts - wins - losses, digits = decimals(d.low, d.high), [text, from, to] = [d.value, d.low, d.high].map((one) => signed(one, digits));
  const words = { text, interval: `${from} to ${to}`, p: pWords(p), wins: `${whole(d.rate)}\u00a0%`, can: number(can, digits),
    range: `${whole(d.from)} to ${whole(d.to)}`, prompts: count(prompts), won: d.won.toLocaleString("en"), lost: d.lost.toLocaleString("en"),
    equal: equal ? `, ${equal.toLocaleString("en")} ${equal === 1 ? "is" : "are"} equal` : "" };
  return { ...d, ...words, kind: p > scope.level ? "open" : d.value > 0 ? "up" : "down" };
}

function furthest(b, scope, one, other) { // the prompts on which the one is ahead most, as largest_differences has them
  const [a, z] = [b.scores[one], b.scores[other]], ahead = (row) => a[row] - z[row];
  const rows = D.prompts.map((_, row) => row).filter((row) => inside([scope, row]) && a[row] !== null && z[row] !== null && ahead(row) > 0);
  return rows.sort((x, y) => ahead(y) - ahead(x) || x - y).slice(0, 6);
}

// The address is the state

function state() {
  const s = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const b = D.boards.find((one) => one.label === s.scorer) || D.boards[0], [best, next] = b.models;
  const scope = b.scopes.find((one) => one.category === s.category) || b.scopes[0];
  const asked = ["compare", "prompts", "about"].includes(s.view) ? s.view : "board";
  const view = MODEL.has(s.model) ? "model" : ROW.has(s.prompt) ? "prompt" : asked;
  const second = b.models.includes(s.second) ? s.second : s.first === best ? next : best;
  const first = b.models.includes(s.first) && s.first !== second ? s.first : second === best ? next : best;
  const [z, a] = [second, first].map((name) => b.models.indexOf(name)), d = z < 0 || a < 0 ? null : difference(b, scope, z, a);
  const defaults = { q: "", by: "spread", most: PAGE, shared: d ? "yes" : "no" };
  return { ...defaults, ...s, b, scope, view, first, second, z, a, d, scorer: b.label, category: scope.category };
}

function address(changes, keep = ["scorer", "category"]) {
  const now = new URLSearchParams(location.hash.slice(1)), next = new URLSearchParams();
  for (const key of keep) if (now.get(key)) next.set(key, now.get(key));
  for (const [key, value] of Object.entries(changes)) value ? next.set(key, value) : next.delete(key);
  return `#${next}`;
}

function change(changes) {
  history.replaceState(null, "", address(changes, [...new URLSearchParams(location.hash.slice(1)).keys()]));
  draw();
}

const link = (text, changes) => el("a", { href: address(changes) }, text);

// Pictures

function fileOf({ link: from }, row) {
  const place = D.places[row], cut = place.lastIndexOf("/") + 1;
  if (!from || (from.names && !from.names[row])) return null;
  if (from.names) return from.root + from.names[row];
  const folder = cut ? `${encodeURIComponent(place.slice(0, cut - 1))}/` : "";
  return from.root + folder + place.slice(cut).padStart(5, "0") + from.ending;
}

function picture(name, row, words, full = false) {
  const own = MODEL.get(name), file = fileOf(own, row), sources = flat(full ? [file, own.small[row]] : [own.small[row], file]);
  const image = ([src, ...rest]) => {
    if (!src) return el("span", { class: "nothing" }, "not shown: the image lies elsewhere (see --allow-outside)");
    const found = el("img", { src, alt: `by ${name}: ${D.prompts[row]}`, loading: "lazy", decoding: "async" });
    found.addEventListener("error", () => found.replaceWith(image(rest)));
    return found;
  };
  const shown = file ? el("a", { href: file, target: "_blank" }, image(sources)) : image(sources);
  const more = own.several > 1 && el("small", {}, ` first of up to ${own.several} images`);
  return el("figure", { class: "picture" }, shown, el("figcaption", {}, words, more));
}

const score = (b, name, row) => b.scores[b.models.indexOf(name)][row];
const bold = (b, name, row) => el("strong", {}, number(score(b, name, row), b.fine));
const named = (b, name, row, full) => picture(name, row, [bold(b, name, row), " ", link(name, { model: name })], full);

function card(row, ...pictures) {
  const words = el("p", { class: "prompt" }, link(D.prompts[row], { prompt: D.places[row] }));
  return el("article", { class: "card" }, words, el("div", { class: pictures.length > 1 ? "pictures" : "" }, pictures));
}

// Views

function board({ b, scope, sort, order, q, wins }) {
  const heads = visible("[data-sort]"), at = Math.max(0, heads.findIndex((one) => one.dataset.sort === sort));
  const down = Boolean(sort) && order === "down", table = heads[0].closest("table"), bodies = [...table.tBodies];
  const by = (v, w) => (down ? -1 : 1) * (typeof v === "string" ? v.localeCompare(w, "en") : v - w);
  for (const one of heads) one.parentNode.removeAttribute("aria-sort");
  heads[at].parentNode.setAttribute("aria-sort", down ? "descending" : "ascending");
  for (const body of bodies) {
    const lines = [...body.querySelectorAll("[data-v]")].map((row) => [JSON.parse(row.dataset.v), row]);
    lines.sort(([v, one], [w, other]) => (v[at] === null) - (w[at] === null)
      || (v[at] !== null && by(v[at], w[at])) || one.dataset.place - other.dataset.place);
    for (const [v, row] of lines) row.hidden = !v[1].toLowerCase().includes(q.toLowerCase());
    body.hidden = lines.every(([, row]) => row.hidden);
    body.append(...lines.map(([, row]) => row));
  }
  table.closest("section").querySelector(".empty").hidden = bodies.some((body) => !body.hidden);
  for (const one of visible("[data-open]")) one.href = address({ model: one.dataset.open });
  everyTwo(b, scope, wins || b.models.length < MANY);
  fill("widest", scope.widest.map(([row, ...ends]) => card(row, ...ends.map((n) => named(b, b.models[n], row)))),
    !scope.widest.length && el("p", { class: "note" }, "Nowhere: on each of these prompts all models have the same score."));
}

function everyTwo(b, scope, asked) {
  for (const one of visible("[data-does=wins]")) one.hidden = asked;
  const [table] = visible("[data-fill=wins]");
  if (!asked || !table || table.rows.length) return; // of a scorer and a category, which stay what they are
  const cell = (z, a) => {
    const d = difference(b, scope, z, a), [second, first] = [b.models[z], b.models[a]];
    if (!d) return el("td", {});
    const much = `--much:${Math.round(12 + 80 * Math.min(0.5, Math.abs(d.rate - 0.5)))}%`, words = `${second} against ${first}: ${d.text} points, ${d.p}`;
    return el("td", {}, el("a", { class: d.kind, style: much, href: address({ view: "compare", first, second }), title: words, "aria-label": words }, whole(d.rate)));
  };
  const heads = b.models.map((name, n) => el("th", { scope: "col", title: name }, n + 1));
  table.replaceChildren(el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "row beats column"), heads)),
    el("tbody", {}, b.models.map((name, z) => el("tr", {}, el("th", { scope: "row", title: name }, `${z + 1} `, link(name, { model: name })),
      b.models.map((_, a) => (a === z ? el("td", {}) : cell(z, a)))))));
}

function differences(b, rows, colours = {}) { // on the closest scale that holds them all
  const need = Math.max(0, ...rows.flatMap(([, { low, high }]) => [-low, high]));
  const { content, dataset } = visible("template.scale").findLast((one) => one.dataset.board === b.label && one.dataset.high >= need);
  const x = (value) => `${(50 + (43 * value) / dataset.high).toFixed(2)}%`, cell = (words, kind) => el("td", { class: kind }, words);
  fill("scale", content.firstElementChild.cloneNode(true));
  fill("differences", rows.map(([words, { value, low, high, kind, text, interval, p, wins }]) => {
    const bar = content.lastElementChild.cloneNode(true), mark = bar.querySelector("circle");
    bar.setAttribute("class", `chart ${colours[kind] ?? COLOURS[kind]}`);
    bar.ariaLabel = bar.querySelector("title").textContent = `${text} (${interval})`;
    mark.setAttribute("cx", x(value));
    mark.setAttribute("class", kind === "open" ? "hollow" : "mark");
    bar.querySelectorAll(".rule").forEach((line, n) => {
      line.setAttribute("x1", x(n < 2 ? low : high));
      line.setAttribute("x2", x(n === 1 ? low : high));
    });
    return el("tr", {}, el("th", { scope: "row" }, words), cell(text, "num main"), cell(interval, "num range more"), cell(bar, "bar"),
      cell(wins, "num more"), cell(p.replace(/p (= )?/, ""), "num more"), cell(`${interval} · wins ${wins} · ${p}`, "phone"));
  }));
}

function apart(kind, one, other) { // why a rank may be a range although this difference is significant
  if (kind === "open" || !one || !other || one[1] < other[0] || other[1] < one[0]) return "";
  const ranks = [one, other].map(([low, high]) => (low === high ? low : `${low}–${high}`)).join(" and ");
  return `The ranks of the two, ${ranks}, overlap all the same: this verdict is of one pair, while ranks hold for all models at once, which takes more evidence.`;
}

function compare({ b, scope, first, second, z, a, d }) {
  if (!d) return;
  const { kind, text, interval, p, wins, range, prompts, won, lost, equal, can } = d;
  const [one, other] = [second, first].map((name) => link(name, { model: name })), strong = (words) => el("strong", {}, words);
  fill("verdict", kind === "open" ? ["The data do not decide between ", one, " and ", other, "."]
    : [one, strong(kind === "up" ? " is better than " : " is worse than "), other, ` by ${b.label}.`],
  " Mean difference ", strong(text), ` points (${interval}), ${p}, corrected for ${scope.pairs}. `,
  `${second} wins ${wins} (${range}) of ${prompts}.`);
  fill("ranks", apart(kind, scope.ranks[z], scope.ranks[a]));
  for (const [name, words] of Object.entries({ second, first, prompts, won, lost, equal, can })) fill(name, words);
  for (const [part, name] of [["won", second], ["lost", first]])
    for (const one of visible(`.${part}`)) one.className = `${part} ${MODEL.get(name).colour}`;
  const parts = b.scopes.map((part) => [part.category || "all prompts", difference(b, part, z, a)]);
  differences(b, parts.filter(([, part]) => part), { up: MODEL.get(second).colour, down: MODEL.get(first).colour });
  for (const [name, rows] of [["ahead", furthest(b, scope, z, a)], ["behind", furthest(b, scope, a, z)]]) {
    const pair = (row) => [second, first].map((who) => picture(who, row, [bold(b, who, row), ` ${who}`]));
    fill(name, rows.map((row) => card(row, ...pair(row))), !rows.length && el("p", { class: "note" }, "On no prompt."));
  }
}

function model({ b, scope, model: name }) {
  const n = b.models.indexOf(name);
  if (n < 0) return;
  const others = b.models.map((first, m) => [link(first, { view: "compare", first, second: name }), difference(b, scope, n, m)]);
  if (others.length > 1) differences(b, others.filter(([, d]) => d));
  for (const part of ["best", "worst"]) {
    const [number, rows] = scope.models[n][part];
    fill(`${part}-count`, `${number ? number.toLocaleString("en") : "none"} of ${scope.models[n].prompts}`);
    fill(part, rows.map(([row, from]) => card(row, picture(name, row, [bold(b, name, row), ` (${from})`]))));
  }
}

const inside = ([{ category }, row]) => !category || D.groups[row] === category;

function prompts({ b, scope, q, by, most }) {
  const asked = D.prompts.map((text, row) => [scope, row, text.toLowerCase()]).filter(inside);
  const rows = asked.filter(([, , text]) => text.includes(q.toLowerCase())).map(([, row]) => row);
  if (by === "spread") rows.sort((one, other) => (b.range[other] ?? -1) - (b.range[one] ?? -1) || one - other);
  const cell = (words, kind) => el("td", { class: kind }, words);
  fill("count", count(rows.length));
  fill("list", rows.slice(0, most).map((row) => el("tr", {}, cell(link(D.prompts[row], { prompt: D.places[row] }), ""),
    cell(D.places[row], "range gone"), cell(b.models[b.best[row]] ?? "–", "gone"), cell(b.range[row]?.toFixed(b.fine) ?? "–", "num"))));
  document.getElementById("more").hidden = rows.length <= most;
}

function prompt({ b, prompt: place }) {
  const row = ROW.get(place), known = (name) => score(b, name, row) ?? -Infinity;
  const none = (name) => el("figure", { class: "picture" }, el("span", { class: "nothing" }, "no image"), el("figcaption", {}, "– ", name));
  fill("place", `Prompt ${place}`);
  fill("text", D.prompts[row]);
  fill("gallery", [...b.models].sort((one, other) => known(other) - known(one)).map((name) =>
    (score(b, name, row) === null ? none(name) : named(b, name, row, true))));
  for (const [name, to, words] of [["previous", row - 1, "← previous"], ["next", row + 1, "next →"]])
    fill(name, to in D.places && link(words, { prompt: D.places[to] }));
}

// Drawing

function draw(moved = false) {
  const s = state();
  for (const one of document.querySelectorAll(PARTS.map((key) => `[data-${key}]`)))
    one.hidden = PARTS.some((key) => key in one.dataset && one.dataset[key] !== s[key]);
  for (const one of visible("[data-key]")) if (one.value !== s[one.dataset.key]) one.value = s[one.dataset.key];
  for (const one of visible("[data-to]")) {
    one.href = address({ view: one.dataset.to });
    s.view === (one.dataset.to || "board") ? one.setAttribute("aria-current", "page") : one.removeAttribute("aria-current");
  }
  VIEWS[s.view]?.(s);
  const heading = visible("#view h2")[0];
  document.title = s.view === "board" ? D.title : `${heading.innerText} – ${D.title}`;
  if (moved) window.scrollTo(0, 0);
  if (moved) heading.focus({ preventScroll: true });
}

document.addEventListener("input", ({ target }) => target.dataset.key === "q" && change({ q: target.value, most: "" }));
document.addEventListener("change", ({ target: { dataset: { key }, value } }) => {
  const { first, second } = state(), pair = { first, second };
  if (key in pair) change(Object.values(pair).includes(value) ? { first: second, second: first } : { ...pair, [key]: value });
  else if (key && key !== "q") change({ [key]: value });
});
document.addEventListener("click", ({ target }) => {
  const { sort, order, does } = target.dataset, { first, second, most } = state();
  const turned = { ascending: "down", descending: "up" }[target.closest("[aria-sort]")?.getAttribute("aria-sort")];
  if (sort) change({ sort, order: turned ?? order });
  if (does === "wins") change({ wins: "yes" });
  if (does === "swap") change({ first: second, second: first });
  if (does === "more") change({ most: Number(most) + 4 * PAGE });
});
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", () => draw(true));
draw();
