/**
 * What the page says about a ranking, on the screen and to a screen reader.
 *
 * @typedef {import("./ranking.js").State} State
 * @typedef {import("./ranking.js").Action} Action
 */
import { ordinal, plural } from "./dom.js";
import { obstacle, standing, unranked } from "./ranking.js";

/** @param {number} position */
export function nameOf(position) {
  return `Image ${position + 1}`;
}

/** The accessible name of a card. @param {State} state @param {number} position */
export function cardName(state, position) {
  const { rank, of, tied, auto } = standing(state, position);
  const marks = state.now.answer.flags[position] ?? [];
  return [
    nameOf(position),
    rank ? `rank ${rank} of ${of}` : "not ranked",
    tied.length ? `tied with ${tied.map((other) => other + 1).join(", ")}` : "",
    auto ? "placed last by itself" : "",
    marks.length ? plural(marks.length, "problem") : "",
  ].filter(Boolean).join(", ");
}

/** What to do next. @param {State} state */
export function hint(state) {
  const { rules, now } = state;
  const left = unranked(state).length;
  const why = obstacle(state);
  if (why === "untouched") return rules.n === 2 ? "Choose the better image" : "Choose the best image";
  if (now.answer.tiers.length === 0) return "None is acceptable. Submit, or rank them as well";
  if (now.auto !== null) return `${nameOf(now.auto)} took the last place by itself. Submit, or change the order`;
  if (left === 0) return "All are ranked. Submit, or change the order";
  const next = `Choose the ${ordinal(now.answer.tiers.length + 1)} best: ${left} left`;
  return why === null ? `${next}, or submit` : next;
}

/** Why it cannot be submitted yet. @param {State} state @param {number[]} loading images not on the screen yet */
export function objection(state, loading) {
  const why = obstacle(state);
  if (why === "untouched") return state.rules.none ? "Rank the images first, or mark that none is acceptable" : "Rank the images first";
  if (why === "incomplete") return `${plural(unranked(state).length, "image")} not ranked yet`;
  if (loading.length) return `${nameOf(loading[0])} is not loaded yet`;
  return null;
}

/** What an action did. @param {State} before @param {State} after @param {Action} action */
export function report(before, after, action) {
  const done = after.rules.n - unranked(after).length;
  const progress = `${done} of ${after.rules.n} ranked`;
  if (before === after) return unchanged(after, action);
  switch (action.type) {
    case "undo": return `Undone. ${progress}`;
    case "redo": return `Done again. ${progress}`;
    case "unplace": return `${nameOf(action.position)} taken back. ${progress}`;
    case "none": return after.now.answer.none ? "Marked: none of the images is acceptable" : "No longer marked as none acceptable";
    case "rate": return `${nameOf(action.position)}: rating ${after.now.answer.ratings[action.position] ?? "removed"}`;
    case "flag": return cardName(after, action.position);
    case "choose": return CHOSEN[action.choice];
    case "adopt": return `The other order is shown. ${progress}`;
    case "clear": return `All taken back. ${progress}`;
    default: return placed(after, action.position);
  }
}

/** The choices of a pair. */
export const CHOSEN = {
  left: "Image 1 is better", right: "Image 2 is better", tie: "Equally good", none: "None is acceptable",
};

/** @param {State} state @param {number} position */
function placed(state, position) {
  const fallen = state.now.auto !== null && state.now.auto !== position;
  const rest = fallen ? ` ${nameOf(state.now.auto)} took the last place by itself.` : "";
  const end = obstacle(state) === null && unranked(state).length === 0 ? " All are ranked; Enter submits." : "";
  return `${cardName(state, position)}.${rest}${end}`;
}

/** @param {State} state @param {Action} action */
function unchanged(state, action) {
  if (action.type === "undo") return "Nothing to undo";
  if (action.type === "redo") return "Nothing to do again";
  if (action.type === "tie" && !state.rules.ties) return "Ties are not allowed here";
  if (action.type === "none") return "This project does not ask for that";
  if (action.position === undefined) return "";
  return standing(state, action.position).rank ? `${cardName(state, action.position)}. Nothing to change`
    : `${nameOf(action.position)} is not ranked yet`;
}
