/** What is stored and what is not, in one line; and messages that pass. */
import { byId, make, plural } from "./dom.js";

/**
 * @param {{pending: number, refused: string[], wait: number, locked: boolean, draft: string|null, any: boolean}} is
 * @returns {{state: "saved"|"pending"|"failed"|"", text: string}}
 */
export function describe({ pending, refused, wait, locked, draft, any }) {
  const kept = pending ? `: ${plural(pending, "answer")} kept here` : "";
  if (locked) return { state: "failed", text: `Not saved, session ended${kept}` };
  if (refused.length) return { state: "failed", text: `Not stored: ${refused[0]}` };
  if (draft === "conflict") return { state: "failed", text: "Not saved: changed in another tab" };
  if (draft === "refused") return { state: "failed", text: "Draft not saved" };
  const waiting = pending ? `, ${plural(pending, "answer")} waiting` : "";
  if ((pending && wait) || draft === "retrying") {
    return { state: "failed", text: navigator.onLine ? `Not saved: retrying${waiting}` : `Not saved: no connection${waiting}` };
  }
  if (pending || draft === "saving") return { state: "pending", text: "Saving…" };
  return any ? { state: "saved", text: "Saved" } : { state: "", text: "" };
}

/** @param {{state: string, text: string}} said */
export function showStatus({ state, text }) {
  const line = byId("saved");
  if (line.textContent !== text) line.textContent = text;
  line.dataset.state = state;
}

/**
 * A message with things to do about it; it stays until one is done.
 * @param {string} id of the place @param {string} text @param {Record<string, () => void>} [ways] label to action
 */
export function showBanner(id, text, ways = {}) {
  const place = byId(id);
  const buttons = Object.entries(ways).map(([label, action]) => make("button", { type: "button", text: label, onclick: () => {
    hideBanner(id);
    action();
  } }));
  place.replaceChildren(make("span", { text }), ...buttons);
  place.hidden = false;
}

/** @param {string} id */
export function hideBanner(id) {
  byId(id).hidden = true;
  byId(id).replaceChildren();
}

let passing = 0;

/** A remark that goes by itself. @param {string} text */
export function toast(text) {
  clearTimeout(passing);
  showBanner("toast", text);
  passing = setTimeout(() => hideBanner("toast"), 6000);
}

/** For a screen reader, politely. The same words twice are still two events. @param {string} text */
export function announce(text) {
  const live = byId("live");
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}
