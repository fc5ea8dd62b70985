// The state and the leaderboard itself; the other views are in leaderboard_views.js.
//
// The page holds its data as JSON; the address after # is the whole state, so that every view can be linked.
//   models    all that were compared: name, complete, missing, meta, versions, result, sha256, small, link, several
//   boards    one for each scorer: models (names, best first), scores[model][prompt], scopes, published
//   scopes    all prompts, then each category: models (figures, in the order of the board) and differences: [first,
//             second, value, low, high, win_rate, win_low, win_high, holm_p, prompts, detectable, wins, losses]

const D = JSON.parse(document.getElementById("data").textContent);
const CATEGORIES = D.suite.categories.map((category) => category.name);
const MODEL = new Map(D.models.map((one) => [one.name, one]));
const ROW = new Map(D.prompts.map((_, row) => [placeOf(row), row]));
const CHANCE = 1 - D.settings.level;
const SHOWN = 6;
const PAGE = 60;
const stored = (id) => document.getElementById(id).content.cloneNode(true);
const about = () => stored("about");
const VIEWS = { board, compare, prompts, about };
const TITLES = { board: "Leaderboard", compare: "Compare", prompts: "Prompts", about: "About" };

// State

function state() {
  const s = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const b = D.boards.find((one) => one.label === s.scorer) || D.boards[0];
  const scope = b.scopes.find((one) => one.category === s.category) || b.scopes[0];
  const asked = Object.hasOwn(VIEWS, s.view || "") ? s.view : "board";
  const view = MODEL.has(s.model) ? "model" : ROW.has(s.prompt) ? "prompt" : asked;
  return { ...s, b, scope, view, category: scope.category, q: s.q || "" };
}

function address(changes, keep = ["scorer", "category"]) {
  const now = new URLSearchParams(location.hash.slice(1)), next = new URLSearchParams();
  for (const key of keep) if (now.get(key)) next.set(key, now.get(key));
  for (const [key, value] of Object.entries(changes)) value ? next.set(key, value) : next.delete(key);
  return `#${next}`;
}

function change(changes) {
  const every = [...new URLSearchParams(location.hash.slice(1)).keys()];
  history.replaceState(null, "", address(changes, every));
  draw();
}

const link = (text, changes, attributes = {}) => el("a", { href: address(changes), ...attributes }, text);
const modelLink = (name) => link(name, { model: name });
const called = (category) => category || "all prompts";
const inCategory = (category) => category && `: ${category}`;

function options(names, chosen, key, label, words) {
  const attributes = { "aria-label": label, "data-key": key, change: (e) => change({ [key]: e.target.value }) };
  return select(names, chosen, attributes, words);
}

// Prompts and pictures

function placeOf(row) {
  const category = CATEGORIES[D.category[row]];
  return category ? `${category}/${D.number[row]}` : `${D.number[row]}`;
}

function fileOf(name, row) {
  const { link: from } = MODEL.get(name);
  if (!from) return null;
  if (from.names) return from.names[row] && from.root + from.names[row];
  const category = CATEGORIES[D.category[row]], digits = String(D.number[row]).padStart(5, "0");
  return from.root + (category ? `${encodeURIComponent(category)}/` : "") + digits + from.ending;
}

function picture(name, row, words, full = false) {
  const own = MODEL.get(name), file = fileOf(name, row), tiny = own.small[row];
  const sources = (full ? [file, tiny] : [tiny, file]).filter(Boolean);
  const image = (n) => n >= sources.length ? el("span", { class: "nothing" }, "the image is not beside this page")
    : el("img", {
      src: sources[n], alt: `by ${name}: ${D.prompts[row]}`, loading: "lazy", decoding: "async",
      error: (e) => e.target.replaceWith(image(n + 1)),
    });
  const more = own.several > 1 && el("small", {}, ` first of up to ${own.several} images`);
  return el("figure", { class: "picture" }, file ? el("a", { href: file, target: "_blank" }, image(0)) : image(0),
    el("figcaption", {}, words, more));
}

function card(row, ...pictures) {
  const words = el("p", { class: "prompt" }, link(D.prompts[row], { prompt: placeOf(row) }));
  return el("article", { class: "card" }, words, el("div", { class: pictures.length > 1 ? "pictures" : null }, pictures));
}

// What the scores say of single prompts: functions of its row; null where there is nothing to compare

const inScope = (s, row) => !s.category || CATEGORIES[D.category[row]] === s.category;

function figures(s, figure) {
  const rows = D.prompts.map((_, row) => row).filter((row) => inScope(s, row));
  return rows.map((row) => [row, figure(row)]).filter(([, v]) => v !== null);
}

const positive = (s, figure) => figures(s, figure).filter(([, v]) => v > 0);
const strongest = (s, figure) => positive(s, figure).sort(([row, v], [other, w]) => w - v || row - other).slice(0, SHOWN);

const difference = (b, first, second) => (row) => {
  const one = b.scores[first][row], other = b.scores[second][row];
  return one === null || other === null ? null : other - one;
};

const margin = (b, n, sign = 1) => (row) => {
  const own = b.scores[n][row], others = b.scores.map((scores) => scores[row]).filter((v, m) => m !== n && v !== null);
  if (own === null || (b.scores.length > 1 && !others.length)) return null;
  const mean = others.length ? others.reduce((sum, v) => sum + v, 0) / others.length : b.scopes[0].models[n].value;
  return sign * (own - mean);
};

const spread = (b) => (row) => {
  const there = b.scores.map((scores) => scores[row]).filter((v) => v !== null);
  return there.length > 1 ? Math.max(...there) - Math.min(...there) : null;
};

function byScore(b, row) {
  const found = b.models.map((name, n) => ({ name, score: b.scores[n][row] }));
  return found.sort((one, other) => (other.score ?? -Infinity) - (one.score ?? -Infinity));
}

function between(scope, one, other) {
  for (const [a, b, v, low, high, wins, winLow, winHigh, p, n, detectable, won, lost] of scope.differences) {
    const same = { p, n, detectable, equal: n - won - lost };
    if (a === one && b === other) return { value: v, low, high, wins, winLow, winHigh, won, lost, ...same };
    if (a === other && b === one) {
      const turned = { value: -v, low: -high, high: -low, wins: 1 - wins, winLow: 1 - winHigh, winHigh: 1 - winLow };
      return { ...turned, won: lost, lost: won, ...same };
    }
  }
  return null;
}

// The leaderboard

function columns({ b, scope, category }) {
  const at = (part) => (row) => (row.published ? row.categories[part.category] : part.models[row.place].value);
  const own = (row) => row.strength ? row.strength.value : null;
  return [
    { key: "rank", name: "Rank", value: (row) => (row.rank ? row.rank.value : null), up: true },
    { key: "model", name: "Model", value: (row) => row.name, up: true },
    { key: "mean", name: category || "Average", value: (row) => row.value },
    { key: "wins", name: "Wins", value: (row) => row.win_rate ?? null, show: (v) => percent(v) },
    { key: "strength", name: "Strength", value: own, show: (v) => signed(v, 2) },
    ...(category ? [{ key: "official", name: "Mean of 80s", value: (row) => row.mean ?? null, show: (v, row) => of80(b, row) }]
      : b.scopes.slice(1).map((part) => ({
        key: `in ${part.category}`, name: part.category, value: at(part), show: (v) => number(v, b.digits) }))),
  ];
}

function of80(b, row) {
  if (row.mean === null) return "";
  return number(row.mean, b.digits) + (row.deviation === null ? "" : ` ± ${number(row.deviation, b.digits)}`);
}

function incomplete(row, scope) {
  const words = row.prompts < scope.prompts
    ? `incomplete: average over ${row.prompts.toLocaleString("en")} of ${count(scope.prompts, "prompt")}`
    : !MODEL.get(row.name).complete && !MODEL.get(row.name).missing && "incomplete: some prompts have fewer images";
  return words && [" ", el("span", { class: "mark-off" }, words)];
}

function sorted(rows, column, down) {
  const order = (one, other) => (typeof one === "string" ? one.localeCompare(other, "en") : one - other);
  return rows.map((row) => [column.value(row), row]).sort(([one, a], [other, b]) => {
    if (one === null || other === null) return (one === null) - (other === null) || a.place - b.place;
    return (down ? -1 : 1) * order(one, other) || a.place - b.place;
  }).map(([, row]) => row);
}

function board(s) {
  const { b, scope, category } = s, every = columns(s);
  const column = every.find((one) => one.key === s.sort) || every[0], down = Boolean(s.sort) && s.order === "down";
  const wanted = (row) => row.name.toLowerCase().includes(s.q.toLowerCase());
  const measured = scope.models.map((row, place) => ({ ...row, place })).filter(wanted);
  const quoted = b.published.map((row, place) => ({
    ...row, place, published: true, low: null, high: null, value: category ? row.categories[category] : row.average,
  })).filter(wanted);
  const ends = (rows) => rows.flatMap((row) => [row.value, row.low, row.high]).filter((v) => v !== null);
  const axis = axisOf([ends(measured), ends(quoted), [0, 1]].find((values) => values.length));
  const body = (rows, top) => rows.length > 0 && el("tbody", {}, top,
    sorted(rows, column, down).map((row) => boardRow(s, row, every, axis)));
  const published = el("tr", {}, el("th", { scope: "rowgroup", colspan: every.length + 2 },
    `Published table of ${b.info.name}: quoted, other images and software, in no comparison`));
  return [
    title(TITLES.board, inCategory(category), b.reads_prompt === false && [" ",
      el("span", { class: "range" }, `${b.label} does not read the prompt: it judges looks only`)]),
    note(`By ${b.label}; ${count(scope.prompts, "prompt")}. A rank is a range where the data do not decide; all ranges `,
      "hold at once. Wins: on how many prompts a model beats another, averaged over the others. Strength: ",
      "Bradley–Terry, log-odds against the average model."),
    el("div", { class: "scroll" }, el("table", { class: "board" }, boardHead(every, column, down, axis),
      body(measured), body(quoted, published))),
    measured.length + quoted.length === 0 && el("p", { class: "empty" }, "No model has such a name."),
    D.notes.map((words) => el("p", { class: "warning" }, words)),
    b.models.length > 1 && [el("h2", {}, "Every two models"), wins(s)],
    b.models.length > 1 && [el("h2", {}, "Where models differ most"), widest(s)],
    stored("agreement"),
  ];
}

function boardHead(every, column, down, axis) {
  const heads = every.map((one) => {
    const order = (one === column ? !down : !one.up) ? "down" : "up";
    const button = el("button", {
      type: "button", "data-key": `sort ${one.key}`, click: () => change({ sort: one.key, order }) }, one.name);
    const kind = { rank: "rank", model: null }[one.key];
    const way = one === column ? (down ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: kind === undefined ? "num" : kind, "aria-sort": way }, button);
  });
  heads.splice(3, 0, head("Interval", "num more"), head(labels(axis), "bar"));
  return el("thead", {}, el("tr", {}, heads));
}

function boardRow({ b, scope }, row, every, axis) {
  const off = !row.published && incomplete(row, scope);
  const rest = every.slice(3).map((one) => [one, one.value(row)]);
  const texts = rest.map(([one, v]) => [one.name.toLowerCase(), v === null ? "" : one.show(v, row)]);
  const ends = range(row.low, row.high, b.digits), words = `${row.name}: ${number(row.value, b.digits)} (${ends})`;
  const kind = row.published ? "quoted" : "c0";
  return el("tr", { class: row.published ? "published" : null },
    cell(row.published ? "" : ranks(row.rank), "rank"),
    el("th", { scope: "row" }, row.published ? row.name : modelLink(row.name), off),
    cell(number(row.value, b.digits), "num main"), cell(ends, "range num more"),
    cell(row.value !== null && interval(axis, row.value, row.low, row.high, kind, words, row.published), "bar"),
    texts.map(([, text]) => cell(text, "num more")),
    cell([["", ends], ...texts].filter(([, text]) => text).map((both) => both.join(" ").trim()).join(" · "), "phone"));
}

function wins({ b, scope }) {
  const place = (row, column) => {
    const d = row === column ? null : between(scope, column, row);
    if (!d) return el("td");
    const kind = d.p > CHANCE ? "open" : d.value > 0 ? "up" : "down";
    const words = `${b.models[row]} against ${b.models[column]}: ${signed(d.value, b.digits)} points, ${pValue(d.p)}`;
    const style = `--much: ${Math.round(12 + 110 * Math.min(0.5, Math.abs(d.wins - 0.5)))}%`;
    const to = { view: "compare", first: b.models[column], second: b.models[row] };
    return el("td", {}, link(whole(d.wins), to, { class: kind, style, title: words, "aria-label": words }));
  };
  const rows = b.models.map((name, row) => el("tr", {},
    el("th", { scope: "row", title: name }, `${row + 1} `, modelLink(name)), b.models.map((_, column) => place(row, column))));
  return [
    note("On how many of 100 prompts the row beats the column. Coloured: the difference of the means is significant, ",
      "corrected for the number of pairs (Holm); blue: the row is better. Grey: the data do not decide. Open one to compare."),
    table("wins", [["row beats column", ""], ...b.models.map((_, n) => [`${n + 1}`, "num"])], rows),
  ];
}

function widest(s) {
  const found = strongest(s, spread(s.b));
  if (!found.length) return note("Nowhere: on each of these prompts all models have the same score.");
  return [note("The prompts with the widest range of scores: the best and the worst image."),
    el("div", { class: "cards" }, found.map(([row]) => {
      const there = byScore(s.b, row).filter((one) => one.score !== null);
      const ends = [there[0], there[there.length - 1]];
      const words = ({ name, score }) => [el("strong", {}, number(score, s.b.digits)), " ", modelLink(name)];
      return card(row, ...ends.map((one) => picture(one.name, row, words(one))));
    }))];
}

// Drawing

function tools(s) {
  const search = { board: "Find a model", prompts: "Find a prompt" }[s.view];
  const find = (e) => change({ q: e.target.value, most: "" });
  const parts = s.b.scopes.map((one) => one.category), scorers = D.boards.map((one) => one.label);
  return shown([
    search && el("input", { type: "search", placeholder: search, "aria-label": search, value: s.q, "data-key": "q", input: find }),
    parts.length > 1 && !["prompt", "about"].includes(s.view) && options(parts, s.category, "category", "Category", called),
    scorers.length > 1 && s.view !== "about" && options(scorers, s.b.label, "scorer", "Scorer", (name) => `by ${name}`)]);
}

function draw(moved = false) {
  const s = state(), active = document.activeElement, key = active.dataset.key, caret = active.selectionStart;
  const nav = Object.keys(VIEWS).map((name) => link(TITLES[name], { view: name === "board" ? "" : name },
    { "aria-current": s.view === name ? "page" : null, "data-key": `view ${name}` }));
  document.getElementById("views").replaceChildren(...nav);
  document.getElementById("tools").replaceChildren(...tools(s));
  document.getElementById("view").replaceChildren(...shown({ ...VIEWS, model, prompt }[s.view](s)));
  document.title = s.view === "board" ? D.title : `${s.model || s.prompt || TITLES[s.view]} – ${D.title}`;
  const again = key && [...document.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key);
  if (again) again.focus();
  if (again && key === "q") again.setSelectionRange(caret, caret);
  if (moved) window.scrollTo(0, 0);
  if (moved && !again) document.querySelector("#view h2").focus({ preventScroll: true });
}

document.getElementById("tools").addEventListener("submit", (e) => e.preventDefault());
window.addEventListener("hashchange", () => draw(true));
draw();
