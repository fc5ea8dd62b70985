// The views of the leaderboard beside the first: two models, one model, prompts.

// Two models

function compare(s) {
  const { b, scope } = s;
  if (b.models.length < 2) return [title(TITLES.compare), el("p", { class: "empty" }, "There is only one model.")];
  const second = b.models.includes(s.second) ? s.second : b.models.find((name) => name !== s.first);
  const first = b.models.includes(s.first) && s.first !== second ? s.first : b.models.find((name) => name !== second);
  const [a, z] = [b.models.indexOf(first), b.models.indexOf(second)], d = between(scope, a, z);
  const swap = () => change({ first: second, second: first });
  const pick = (key, chosen) => select(b.models, chosen, { "aria-label": `${key} model`, "data-key": key,
    change: (e) => ([first, second].includes(e.target.value) ? swap() : change({ first, second, [key]: e.target.value })) });
  const words = (n, row) => [el("strong", {}, number(b.scores[n][row], b.digits)), " ", b.models[n]];
  const ahead = (from, to) => {
    const found = strongest(s, difference(b, from, to)), name = b.models[to];
    return [el("h2", {}, `Where ${name} is ahead most`), !found.length ? note("On no prompt.")
      : el("div", { class: "cards" }, found.map(([row]) =>
        card(row, ...[z, a].map((n) => picture(b.models[n], row, words(n, row))))))];
  };
  const parts = b.scopes.map((one) => [called(one.category), called(one.category), between(one, a, z)]);
  return [
    title(TITLES.compare, inCategory(s.category)),
    el("div", { class: "picks" }, pick("second", second), "against", pick("first", first),
      el("button", { class: "button", type: "button", "data-key": "swap", click: swap }, "swap")),
    !d ? el("p", { class: "empty" }, "The two share fewer than two prompts: there is nothing to compare.") : [
      verdict(b, scope, d, first, second), differences(b, "prompts", parts),
      byPrompt(figures(s, difference(b, a, z)).map(([, v]) => v), d, first, second), ahead(a, z), ahead(z, a)],
  ];
}

function verdict(b, scope, d, first, second) {
  const better = el("strong", {}, d.value > 0 ? " is better than " : " is worse than ");
  const words = d.p > CHANCE ? ["The data do not decide between ", modelLink(second), " and ", modelLink(first), "."]
    : [modelLink(second), better, modelLink(first), ` by ${b.label}.`];
  const won = `${second} wins ${percent(d.wins)} (${whole(d.winLow)} to ${whole(d.winHigh)})`;
  return [
    el("p", { class: "verdict" }, words, " Mean difference ", el("strong", {}, signed(d.value, b.digits)),
      ` points (${range(d.low, d.high, b.digits, signed)}), ${pValue(d.p)}, corrected for `,
      `${count(scope.differences.length, "pair")}. ${won} of ${count(d.n, "prompt")}.`),
    note(`Can detect ${number(d.detectable, b.digits)} points: the smallest true difference that so many prompts find with `,
      "80 % power, if only these two are compared."),
  ];
}

function byPrompt(values, d, first, second) {
  const words = `Difference of the scores, ${second} less ${first}, over ${count(d.n, "prompt")}`;
  const side = (kind, name, n) => el("span", { class: kind }, `${name} wins ${n.toLocaleString("en")}`);
  return [el("h3", {}, "Prompt by prompt"), values.some(Boolean) && histogram(values, d.value, words),
    note(`${words}. `, side("c0", second, d.won), ", ", side("c1", first, d.lost),
      d.equal > 0 && `, ${d.equal.toLocaleString("en")} ${d.equal === 1 ? "is" : "are"} equal and not drawn`, ". Dashed: the mean.")];
}

function differences(b, what, rows) {
  const there = rows.filter(([, , d]) => d), axis = axisOf([0, ...there.flatMap(([, , d]) => [d.low, d.high])]);
  const heads = [[what, ""], ["difference", "num"], ["interval", "num more"], [labels(axis), "bar"],
    ["wins", "num more"], ["p (Holm)", "num more"]];
  return table("board few", heads, there.map(([name, words, d]) => {
    const open = d.p > CHANCE, ends = range(d.low, d.high, b.digits, signed);
    const kind = open ? "quoted" : d.value > 0 ? "c0" : "c1", says = `${name}: ${signed(d.value, b.digits)} (${ends})`;
    return el("tr", {}, el("th", { scope: "row" }, words), cell(signed(d.value, b.digits), "num main"),
      cell(ends, "range num more"), cell(interval(axis, d.value, d.low, d.high, kind, says, open), "bar"),
      cell(percent(d.wins), "num more"), cell(small(d.p), "num more"),
      cell(`${ends} · wins ${percent(d.wins)} · ${pValue(d.p)}`, "phone"));
  }));
}

// One model

function model(s) {
  const { b, scope } = s, name = s.model, own = MODEL.get(name), n = b.models.indexOf(name);
  if (n < 0) return [title(name), el("p", { class: "empty" }, `${b.label} has not scored this model; choose another scorer.`)];
  const row = scope.models[n], ends = range(row.low, row.high, b.digits);
  const against = b.models.map((other, m) =>
    [other, link(other, { view: "compare", first: other, second: name }), between(scope, m, n)]);
  const words = (at) => [el("strong", {}, number(b.scores[n][at], b.digits)), ` (${signed(margin(b, n)(at), b.digits)})`];
  const others = b.models.length > 1 ? "the mean of the other models" : "its own mean";
  const cases = (sign, start, end) => {
    const all = figures(s, margin(b, n, sign)).length, found = positive(s, margin(b, n, sign)).length;
    const cards = strongest(s, margin(b, n, sign)).map(([at]) => card(at, picture(name, at, words(at))));
    return [note(`${start} on ${found ? found.toLocaleString("en") : "none"} of ${count(all, "prompt")}${end}.`),
      el("div", { class: "cards single" }, cards)];
  };
  const mono = (text) => el("span", { class: "mono" }, text);
  return [
    title(name, inCategory(s.category)),
    el("p", { class: "verdict" }, row.rank && ["Rank ", el("strong", {}, ranks(row.rank)),
      ` of ${row.rank.of} over ${count(row.rank.prompts, "prompt")}. `], "Mean ",
      el("strong", {}, number(row.value, b.digits)), ends && ` (${ends})`, ` by ${b.label} over ${count(row.prompts, "prompt")}.`),
    !own.complete && el("p", { class: "warning" }, own.missing === 0 ? "Incomplete: some prompts have fewer images than others."
      : `Incomplete: ${count(own.missing, "prompt")} without an image, so its averages are over other prompts than those of `
        + "complete models. Compare by the differences."),
    byCategory(b, n),
    b.models.length > 1 && [el("h2", {}, `${name} less the others`), differences(b, "other model", against)],
    el("h2", {}, "Best prompts"), cases(1, `Above ${others}`, "; the score, and how far it is from that mean"),
    el("h2", {}, "Worst prompts"), cases(-1, `Below ${others}`, ""),
    el("h2", {}, "How it was made"), facts([
      ...Object.entries(own.meta).map(([key, v]) => [key, typeof v === "string" ? v : JSON.stringify(v)]),
      ["images", own.images.toLocaleString("en")], ["scorer", mono(b.info.identity)],
      ["versions", Object.entries(own.versions).map(([key, v]) => `${key} ${v}`).join(", ")],
      ["result", mono(own.result)], ["SHA-256", mono(own.sha256)], ["command", mono(own.command)]]),
  ];
}

function byCategory(b, n) {
  const rows = b.scopes.map((scope) => [called(scope.category), scope.models[n]]).filter(([, row]) => row.value !== null);
  const axis = axisOf(rows.flatMap(([, row]) => [row.value, row.low ?? row.value, row.high ?? row.value]));
  const groups = rows.some(([, row]) => row.deviation !== null);
  const heads = [["prompts", ""], ["mean", "num"], ["interval", "num more"], [labels(axis), "bar"], ["rank", "num more"],
    ["wins", "num more"], groups && ["mean of 80s", "num more"]].filter(Boolean);
  return table("board few", heads, rows.map(([name, row]) => {
    const official = groups ? of80(b, row) : "";
    const ends = range(row.low, row.high, b.digits), says = `${name}: ${number(row.value, b.digits)} (${ends})`;
    return el("tr", {}, el("th", { scope: "row" }, name), cell(number(row.value, b.digits), "num main"),
      cell(ends, "range num more"), cell(interval(axis, row.value, row.low, row.high, "c0", says), "bar"),
      cell(ranks(row.rank), "num more"), cell(percent(row.win_rate), "num more"), groups && cell(official, "num more"),
      cell([ends, row.rank && `rank ${ranks(row.rank)}`, row.rank && `wins ${percent(row.win_rate)}`,
        official && `mean of 80s ${official}`].filter(Boolean).join(" · "), "phone"));
  }));
}

// Prompts

function prompts(s) {
  const { b } = s, words = s.q.toLowerCase(), most = Number(s.most) || PAGE, far = spread(b);
  const found = D.prompts.map((_, row) => row).filter((row) => inScope(s, row) && D.prompts[row].toLowerCase().includes(words));
  const ranges = new Map(found.map((row) => [row, far(row)]));
  if (s.by !== "number") found.sort((one, other) => (ranges.get(other) ?? -1) - (ranges.get(one) ?? -1) || one - other);
  const orders = { spread: "widest range first", number: "in order of the suite" };
  const rows = found.slice(0, most).map((row) => {
    const best = byScore(b, row)[0];
    return el("tr", {}, cell(link(D.prompts[row], { prompt: placeOf(row) }), null), cell(placeOf(row), "range gone"),
      cell(best.score === null ? "–" : best.name, "gone"), cell(number(ranges.get(row), b.digits)));
  });
  const more = () => change({ most: most + 4 * PAGE });
  return [
    title(TITLES.prompts, inCategory(s.category)),
    el("div", { class: "picks" }, options(Object.keys(orders), s.by, "by", "Order", (key) => orders[key]),
      el("span", { class: "note" }, `${count(found.length, "prompt")}; range: the highest score less the lowest`)),
    table("list", [["prompt", ""], ["place", "gone"], ["best", "gone"], ["range", "num"]], rows),
    found.length > most && el("button", { class: "button", type: "button", "data-key": "most", click: more }, "Show more"),
  ];
}

function prompt({ b, prompt: place }) {
  const row = ROW.get(place);
  const go = (to, words) => to in D.prompts && link(words, { prompt: placeOf(to) }, { class: "button", "data-key": words });
  const one = ({ name, score }) => {
    const words = [el("strong", {}, number(score, b.digits)), " ", modelLink(name)];
    if (score !== null) return picture(name, row, words, true);
    return el("figure", { class: "picture" }, el("span", { class: "nothing" }, "no image"), el("figcaption", {}, words));
  };
  return [
    title(`Prompt ${place}`), el("blockquote", {}, D.prompts[row]),
    el("div", { class: "gallery" }, byScore(b, row).map(one)), go(row - 1, "← previous"), go(row + 1, "next →"),
  ];
}
