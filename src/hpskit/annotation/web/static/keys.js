/**
 * Keys and what they mean; a pure table. Choosing is the same by key as by mouse or finger: an image without a rank takes
 * the next one, a ranked image is only picked out, to be moved, tied or taken back.
 *
 * @typedef {{mode: "rank"|"pair", n: number, focused: number|null, levels: number, letters: boolean}} Where
 *   `focused`: the image whose card has the focus; `letters`: shortcuts of one character are on
 * @typedef {{type: string, position?: number, level?: number, choice?: string, by?: number}} Command
 */
import { KEYS } from "./dom.js";

const LETTERS = {
  z: { type: "undo" }, y: { type: "redo" }, n: { type: "none" }, s: { type: "skip" }, b: { type: "earlier" },
  c: { type: "compare" }, f: { type: "flags" }, t: { type: "tie" }, "?": { type: "help" }, "+": { type: "zoom", by: 1 },
  _: { type: "zoom", by: -1 }, m: { type: "prompt" },
};
const PAIR = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", ArrowDown: "tie", t: "tie", n: "none" };
const MOVES = { ArrowUp: "better", ArrowLeft: "better", ArrowDown: "worse", ArrowRight: "worse", Backspace: "unplace", Delete: "unplace" };

/** @param {KeyboardEvent} event @param {Where} where @returns {Command|null} null: the key is not ours */
export function commandOf(event, where) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.isComposing || event.altKey) return null;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return { type: event.shiftKey ? "redo" : "undo" };
    return key === "y" ? { type: "redo" } : null;
  }
  if (key === "Enter") return { type: "submit" };
  if (key === " ") return { type: "large" };
  if (key === "Escape") return { type: "escape" };
  if (event.key.length === 1 && !where.letters) return null;
  return where.mode === "pair" ? pairCommand(event, key) : rankCommand(event, key, where);
}

/** @returns {Command|null} */
function pairCommand(event, key) {
  if (key in PAIR && !event.shiftKey) return { type: "pair", choice: PAIR[key] };
  if (key === "Backspace") return { type: "undo" };
  return zoomCommand(key) ?? LETTERS[key] ?? null;
}

/** @returns {Command|null} */
function rankCommand(event, key, where) {
  if (key in MOVES) return where.focused === null ? null : { type: MOVES[key], position: where.focused };
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  if (event.shiftKey && digit !== undefined && !/\d/.test(key)) { // the figure row of most keyboards
    if (digit === "0") return { type: "whole" };
    return where.levels >= Number(digit) ? { type: "rate", position: where.focused, level: Number(digit) } : null;
  }
  // A French keyboard has its figures on Shift: there the key's place counts.
  const label = !event.shiftKey && digit !== undefined ? digit : key;
  const position = KEYS.indexOf(label);
  if (position >= 0 && position < where.n) return { type: "choose", position };
  return zoomCommand(key) ?? LETTERS[key] ?? null;
}

/** Where these are no labels of images. @param {string} key @returns {Command|null} */
function zoomCommand(key) {
  return { "-": { type: "zoom", by: -1 }, "=": { type: "zoom", by: 1 }, 0: { type: "whole" } }[key] ?? null;
}
