/**
 * The ranking of one task: a pure reducer without DOM, clock or network.
 *
 * Images are named by their position on the page, 0 to n-1. A tier holds images that tie; the best tier comes first.
 * An image in no tier is not ranked, so a task begins with no tiers: an order that nobody touched is no answer.
 *
 * @typedef {{tiers: number[][], none: boolean, ratings: (number|null)[]|null, flags: Record<string, string[]>}} Answer
 * @typedef {{n: number, ties: boolean, partial: boolean, none: boolean, ratings: number, flags: string[]}} Rules
 * @typedef {{answer: Answer, auto: number|null}} Moment  `auto`: the image that fell into the last place by itself
 * @typedef {{rules: Rules, now: Moment, past: Moment[], future: Moment[]}} State
 * @typedef {{type: string, position?: number, gap?: number, tier?: number, level?: number|null, name?: string,
 *            choice?: "left"|"right"|"tie"|"none", answer?: Answer}} Action
 */

/** @param {Rules} rules @returns {Answer} */
export function emptyAnswer(rules) {
  return { tiers: [], none: false, ratings: rules.ratings ? Array(rules.n).fill(null) : null, flags: {} };
}

/** @param {Rules} rules @param {Answer|null} [answer] a draft or an earlier vote @returns {State} */
export function begin(rules, answer = null) {
  return { rules, now: { answer: { ...emptyAnswer(rules), ...answer }, auto: null }, past: [], future: [] };
}

/** @param {Answer} answer @param {number} position @returns {number} its tier, or -1 */
export function tierOf(answer, position) {
  return answer.tiers.findIndex((tier) => tier.includes(position));
}

/** @param {State} state @returns {number[]} positions without a rank, in page order */
export function unranked({ rules, now }) {
  return [...Array(rules.n).keys()].filter((position) => tierOf(now.answer, position) < 0);
}

/**
 * What an image's card says.
 * @param {State} state @param {number} position
 * @returns {{rank: number, of: number, tied: number[], auto: boolean}} rank 0: not ranked
 */
export function standing({ rules, now }, position) {
  const tier = tierOf(now.answer, position);
  const tied = tier < 0 ? [] : now.answer.tiers[tier].filter((other) => other !== position);
  return { rank: tier + 1, of: rules.n, tied, auto: now.auto === position };
}

/**
 * Why this cannot be submitted, or null. The server checks the same.
 * @param {State} state @returns {"untouched"|"incomplete"|null}
 */
export function obstacle(state) {
  const { rules, now } = state;
  if (now.answer.tiers.length === 0) return now.answer.none ? null : "untouched";
  return unranked(state).length > 0 && !rules.partial ? "incomplete" : null;
}

/** @param {Answer} one @param {Answer} other @returns {boolean} */
export function sameAnswer(one, other) {
  return JSON.stringify(canonical(one)) === JSON.stringify(canonical(other));
}

/** The order inside a tier means nothing, nor does an empty list of flags. @param {Answer} answer @returns {unknown} */
function canonical({ tiers, none, ratings, flags }) {
  const marks = Object.entries(flags).filter(([, names]) => names.length > 0);
  return [tiers.map((tier) => [...tier].sort((a, b) => a - b)), none, ratings,
    marks.map(([position, names]) => [position, [...names].sort()]).sort()];
}

/**
 * The state after an action; the very same object when the action changes nothing.
 * @param {State} state @param {Action} action @returns {State}
 */
export function reduce(state, action) {
  if (action.type === "undo") return travel(state, "past", "future");
  if (action.type === "redo") return travel(state, "future", "past");
  const now = next(state, action);
  if (now === null || (sameAnswer(now.answer, state.now.answer) && now.auto === state.now.auto)) return state;
  return { rules: state.rules, now, past: [...state.past, state.now], future: [] };
}

/** @param {State} state @param {"past"|"future"} from @param {"past"|"future"} to @returns {State} */
function travel(state, from, to) {
  if (state[from].length === 0) return state;
  return { ...state, now: state[from].at(-1), [from]: state[from].slice(0, -1), [to]: [...state[to], state.now] };
}

/** @param {State} state @param {Action} action @returns {Moment|null} */
function next(state, action) {
  const { rules, now: { answer, auto } } = state;
  const position = action.position ?? -1;
  const tier = tierOf(answer, position);
  const alone = tier >= 0 && answer.tiers[tier].length === 1;
  switch (action.type) {
    case "place":
      return tier < 0 ? put(state, position, { gap: answer.tiers.length }) : null;
    case "put":
      return put(state, position, action);
    case "better":
      if (tier < 0 || (alone && tier === 0)) return null;
      return put(state, position, { gap: alone ? tier - 1 : tier });
    case "worse":
      if (tier < 0 || (alone && tier === answer.tiers.length - 1)) return null;
      return put(state, position, { gap: alone ? tier + 2 : tier + 1 });
    case "tie": // with the next better tier; a second time parts the image from it again
      if (tier >= 0 && !alone) return put(state, position, { gap: tier + 1 });
      return put(state, position, { tier: tier < 0 ? answer.tiers.length - 1 : tier - 1 });
    case "unplace":
      return tier < 0 ? null : takeBack(answer, auto, position);
    case "clear":
      return { answer: { ...answer, tiers: [], none: false }, auto: null };
    case "none":
      return rules.none ? { answer: { ...answer, none: !answer.none }, auto } : null;
    case "choose":
      return { answer: { ...answer, ...CHOICES[action.choice] }, auto: null };
    case "rate":
      return rate(rules, answer, auto, position, action.level);
    case "flag":
      return flag(rules, answer, auto, position, action.name);
    case "adopt":
      return { answer: { ...emptyAnswer(rules), ...action.answer }, auto: null };
    default:
      throw new Error(`unknown action ${action.type}`);
  }
}

/** The answers of a pair. */
const CHOICES = {
  left: { tiers: [[0], [1]], none: false },
  right: { tiers: [[1], [0]], none: false },
  tie: { tiers: [[0, 1]], none: false },
  none: { tiers: [], none: true },
};

/**
 * Put an image before a tier (`gap`: 0 is the top) or into one (`tier`), wherever it was; both count today's tiers.
 * @param {State} state @param {number} position @param {{gap?: number, tier?: number}} where @returns {Moment|null}
 */
function put({ rules, now: { answer, auto } }, position, { gap, tier }) {
  if (position < 0 || position >= rules.n) return null;
  if (tier !== undefined && (!rules.ties || !answer.tiers[tier])) return null;
  const fresh = tierOf(answer, position) < 0;
  const tiers = answer.tiers.map((members) => members.filter((member) => member !== position));
  if (tier !== undefined) tiers[tier].push(position);
  else tiers.splice(gap, 0, [position]);
  const full = tiers.filter((members) => members.length > 0);
  const left = [...Array(rules.n).keys()].filter((other) => !full.flat().includes(other));
  if (fresh && left.length === 1 && !rules.ties && !rules.partial) {
    return { answer: { ...answer, tiers: [...full, left] }, auto: left[0] };
  }
  const stillLast = auto !== null && auto !== position && full.at(-1).length === 1 && full.at(-1)[0] === auto;
  return { answer: { ...answer, tiers: full }, auto: stillLast ? auto : null };
}

/**
 * Take an image back; with it the one that had fallen into place, since now there is something to decide again.
 * @param {Answer} answer @param {number|null} auto @param {number} position @returns {Moment}
 */
function takeBack(answer, auto, position) {
  const tiers = answer.tiers.map((tier) => tier.filter((member) => member !== position && member !== auto));
  return { answer: { ...answer, tiers: tiers.filter((tier) => tier.length > 0) }, auto: null };
}

/** @returns {Moment|null} */
function rate(rules, answer, auto, position, level) {
  if (!rules.ratings || position < 0 || (level !== null && !(level >= 1 && level <= rules.ratings))) return null;
  const ratings = [...(answer.ratings ?? Array(rules.n).fill(null))];
  ratings[position] = ratings[position] === level ? null : level;
  return { answer: { ...answer, ratings }, auto };
}

/** @returns {Moment|null} */
function flag(rules, answer, auto, position, name) {
  if (!rules.flags.includes(name) || position < 0) return null;
  const { [position]: had = [], ...others } = answer.flags;
  const names = had.includes(name) ? had.filter((other) => other !== name) : [...had, name];
  return { answer: { ...answer, flags: names.length ? { ...others, [position]: names } : others }, auto };
}
