/** Buttons and keys of the page, turned into what the work does. */
import { showKeys } from "./dialogs.js";
import { byId } from "./dom.js";
import { commandOf } from "./keys.js";
import { Shelf } from "./outbox.js";
import { fitPrompt, openPrompt } from "./prompt.js";

const settings = new Shelf("hpskit.settings.");

/** @param {any} work the page's controller */
export function listen(work) {
  const on = (id, action) => byId(id).addEventListener("click", (event) => {
    // A button pressed by mouse or finger gives the focus back: the next Enter submits, it does not press again.
    if (event.detail > 0) event.currentTarget.blur();
    action();
  });
  const act = (action) => work.screen?.act(action);
  on("undo", () => act({ type: "undo" }));
  on("redo", () => act({ type: "redo" }));
  on("none", () => act({ type: "none" }));
  on("tie-pair", () => work.screen?.decide("tie"));
  on("submit", () => work.screen?.submit());
  on("skip", () => work.skip());
  on("earlier", () => work.earlier());
  on("back", () => work.back());
  on("keys", help);
  on("zoom-in", () => work.view.step(1));
  on("zoom-out", () => work.view.step(-1));
  on("whole", () => work.view.reset());
  on("more", () => toggle(work));
  document.addEventListener("pointerdown", (event) => {
    if (work.screen?.board.menu != null && !event.target.closest(".card, #dock")) closeMenu(work);
  });
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.defaultPrevented || event.target.closest("input, select, textarea")) return;
    const { screen } = work;
    if (!screen) return;
    const focused = screen.board.focused();
    const command = commandOf(event, {
      mode: screen.pair ? "pair" : "rank", n: screen.state.rules.n, focused, levels: screen.state.rules.ratings, letters: lettersOn(),
    });
    const again = event.repeat && ["pair", "choose", "submit", "large"].includes(command?.type); // a key that is held down
    if (again) event.preventDefault();
    else if (command && run(work, command, event, focused)) event.preventDefault();
  });
}

/** @returns {boolean} whether the key has been used up */
function run(work, command, event, focused) {
  const { screen, view } = work;
  const control = event.target.closest("button, a, summary");
  const pick = control?.classList.contains("pick") ?? false;
  if (control && !pick && ["submit", "large"].includes(command.type)) return false; // the button's own Enter and Space
  switch (command.type) {
    case "submit":
      // On a card that still waits for its rank, Enter gives it the rank.
      if (pick && (screen.pair ? !screen.going : !control.closest(".ranked"))) return false;
      screen.submit();
      return true;
    case "large":
      work.large.open(focused ?? 0);
      return true;
    case "compare":
      if (screen.state.rules.n > 1) work.large.open(focused ?? 0, ((focused ?? 0) + 1) % screen.state.rules.n);
      return true;
    case "choose": screen.pick(command.position); return true;
    case "pair": screen.decide(command.choice); return true;
    case "rate": if (focused !== null) screen.act(command); return true;
    case "tie": screen.act({ type: "tie", position: focused ?? -1 }); return true;
    case "flags": screen.flags(focused); return true;
    case "zoom": view.step(command.by); return true;
    case "whole": view.reset(); return true;
    case "skip": work.skip(); return true;
    case "earlier": work.earlier(); return true;
    case "help": help(); return true;
    case "prompt": toggle(work); return true;
    case "escape":
      if (screen.going) screen.act({ type: "undo" });
      closeMenu(work);
      return true;
    default: screen.act(command); return true;
  }
}

function closeMenu({ screen }) {
  screen.board.menu = null;
  screen.draw();
}

function toggle(work) {
  openPrompt();
  fitPrompt();
  work.layout();
}

function help() {
  return showKeys(lettersOn(), (letters) => settings.set("letters", letters));
}

function lettersOn() {
  return settings.get("letters") ?? true;
}
