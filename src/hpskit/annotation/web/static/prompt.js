/** The prompt: always in sight, and never more than a few lines of a small screen unless it is asked for. */
import { byId } from "./dom.js";

/** @param {string} text */
export function showPrompt(text) {
  for (const id of ["prompt-text", "large-prompt"]) byId(id).textContent = text;
  openPrompt(false);
}

/** @param {boolean} [open] the other way round when left out */
export function openPrompt(open = !byId("prompt").classList.contains("open")) {
  byId("prompt").classList.toggle("open", open);
  byId("more").setAttribute("aria-expanded", String(open));
  byId("more").textContent = open ? "less" : "more";
}

/** Offer "more" only where there is more. */
export function fitPrompt() {
  const text = byId("prompt-text");
  const open = byId("prompt").classList.contains("open");
  byId("more").hidden = !open && text.scrollHeight <= text.clientHeight + 1;
}
