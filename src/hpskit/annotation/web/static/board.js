/**
 * The images of a task as cards. A card is drawn from the state and nothing else; its place on the page never changes.
 *
 * @typedef {import("./ranking.js").State} State
 * @typedef {{url: string, width: number, height: number}} Picture
 */
import { KEYS, make, ordinal } from "./dom.js";
import { fit, plan } from "./layout.js";
import { standing } from "./ranking.js";
import { cardName, nameOf } from "./words.js";
import { attach } from "./zoom.js";

const PATIENCE = [1, 3, 8, 20]; // seconds before an image is asked for again

export class Board {
  /**
   * @param {HTMLElement} grid
   * @param {{images: Picture[], rules: import("./ranking.js").Rules, pair: boolean}} task
   * @param {{choose: (position: number) => void, act: (action: import("./ranking.js").Action) => void,
   *   look: (position: number) => void, peek: (position: number|null) => void, flags: (position: number) => void,
   *   loaded: () => void, drag: import("./drag.js").Dragging|null, view: import("./zoom.js").View}} does
   */
  constructor(grid, task, does) {
    Object.assign(this, { grid, task, does });
    this.menu = null;
    this.loading = new Set(task.images.keys());
    this.cards = task.images.map((image, position) => this.#card(image, position));
    grid.replaceChildren(...this.cards);
    grid.classList.toggle("pair", task.pair);
  }

  /** @param {State} state */
  update(state) {
    const { answer } = state.now;
    this.cards.forEach((card, position) => {
      const { rank, tied, auto } = standing(state, position);
      card.setAttribute("aria-label", this.task.pair ? nameOf(position) : cardName(state, position));
      card.classList.toggle("ranked", rank > 0);
      card.classList.toggle("first", rank === 1);
      card.classList.toggle("auto", auto);
      const badge = card.querySelector(".badge");
      badge.textContent = this.task.pair ? pairBadge(answer, position) : rank ? `${tied.length ? "= " : ""}${ordinal(rank)}` : "";
      const pick = card.querySelector(".pick");
      pick.setAttribute("aria-label", rank ? `${nameOf(position)}: change its rank` : `${nameOf(position)}: rank it next`);
      if (this.task.pair) pick.setAttribute("aria-label", `${nameOf(position)} is better`);
      pick.setAttribute("aria-pressed", String(this.task.pair ? rank === 1 && tied.length === 0 : rank > 0));
      const open = this.menu === position && rank > 0;
      card.querySelector(".menu").hidden = !open;
      card.classList.toggle("selected", open);
      this.#updateMenu(card, state, rank, tied);
      card.querySelectorAll(".rate button").forEach((button, index) =>
        button.setAttribute("aria-pressed", String(answer.ratings?.[position] === index + 1)));
      const marks = answer.flags[position] ?? [];
      card.querySelector(".flag")?.classList.toggle("on", marks.length > 0);
      card.querySelector(".flag")?.setAttribute("aria-label",
        `Problems of image ${position + 1}: ${marks.join(", ") || "none reported"}`);
    });
  }

  /** Open or shut the menu of a ranked card. @param {number|null} position @param {State} state */
  openMenu(position, state) {
    this.menu = this.menu === position ? null : position;
    this.update(state);
  }

  /** @param {number} position */
  focus(position) {
    const pick = this.cards[position].querySelector(".pick");
    pick.focus({ preventScroll: true });
    this.cards[position].scrollIntoView({ block: "nearest" });
  }

  /** @returns {number|null} the image whose card has the focus */
  focused() {
    const card = document.activeElement?.closest?.(".card");
    return card && this.grid.contains(card) ? Number(card.dataset.position) : null;
  }

  /** @param {{width: number, height: number}} room */
  layout(room) {
    const style = getComputedStyle(this.grid);
    const foot = this.cards[0].offsetHeight - this.cards[0].querySelector(".frame").offsetHeight;
    const made = plan(this.task.images, room, { gap: parseFloat(style.columnGap) || 0, foot });
    this.grid.style.setProperty("--columns", String(made.columns));
    this.grid.style.setProperty("--cell-w", `${made.cell.width}px`);
    this.grid.style.setProperty("--cell-h", `${made.cell.height}px`);
    this.cards.forEach((card, position) => {
      const size = fit(this.task.images[position], made.cell);
      const image = card.querySelector("img");
      image.style.setProperty("width", `${size.width}px`);
      image.style.setProperty("height", `${size.height}px`);
    });
  }

  #card({ url, width, height }, position) {
    const number = position + 1;
    const image = make("img", { width, height, alt: "", draggable: "false", decoding: "async" });
    this.#load(image, url, position);
    const frame = make("span", { class: "frame" }, image);
    const pick = make("button", { type: "button", class: "pick", onclick: () => this.does.choose(position) },
      frame, make("span", { class: "badge" }));
    attach(frame, this.does.view, { free: false });
    const card = make("div", { class: "card loading", role: "group", "data-position": position }, pick,
      this.#menu(position), this.#foot(position, number));
    return card;
  }

  #foot(position, number) {
    const label = make("span", { class: "number", text: number, "aria-hidden": "true" });
    if (number > 9 && !this.task.pair) label.append(make("kbd", { text: KEYS[position] }));
    const foot = make("div", { class: "foot" }, label);
    const { rules } = this.task;
    if (rules.flags.length) foot.append(make("button", { type: "button", class: "icon flag", onclick: () => this.does.flags(position) }));
    const look = make("button", { type: "button", class: "icon look", "aria-label": `Large view of image ${number}`,
      onclick: () => this.does.look(position) });
    look.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.does.peek(position));
    look.addEventListener("pointerleave", () => this.does.peek(null));
    foot.append(look);
    if (this.does.drag) {
      const handle = make("span", { class: "handle", "aria-hidden": "true", title: "Drag into the order" });
      this.does.drag.attach(handle, position);
      foot.append(handle);
    }
    if (rules.ratings) foot.append(this.#rating(position, rules.ratings));
    return foot;
  }

  #rating(position, levels) {
    const group = make("div", { class: "rate", role: "group", "aria-label": `Rating of image ${position + 1}, ${levels} is best` });
    for (let level = 1; level <= levels; level += 1) {
      group.append(make("button", { type: "button", text: level, "aria-label": `${level} of ${levels}`,
        onclick: () => this.does.act({ type: "rate", position, level }) }));
    }
    return group;
  }

  #menu(position) {
    const button = (type, label, close) => make("button", { type: "button", class: `icon ${type}`, title: label,
      "aria-label": `${nameOf(position)}: ${label}`, onclick: () => {
        if (close) this.menu = null;
        this.does.act({ type, position });
      } });
    return make("div", { class: "menu", role: "group", "aria-label": `Change the rank of image ${position + 1}`, hidden: true },
      button("better", "move up", false), button("worse", "move down", false),
      ...(this.task.rules.ties ? [button("tie", "tie with the one above", false)] : []), button("unplace", "take back", true));
  }

  #updateMenu(card, state, rank, tied) {
    const off = (name, is) => card.querySelector(`.menu .${name}`)?.setAttribute("aria-disabled", String(is));
    off("better", rank === 1 && tied.length === 0);
    off("worse", rank === state.now.answer.tiers.length && tied.length === 0);
    off("tie", rank === 1 && tied.length === 0);
  }

  /** @param {HTMLImageElement} image @param {string} url @param {number} position */
  #load(image, url, position) {
    let attempt = 0;
    image.addEventListener("load", () => {
      this.loading.delete(position);
      image.closest(".card")?.classList.remove("loading", "broken");
      this.does.loaded();
    });
    image.addEventListener("error", () => {
      image.closest(".card")?.classList.add("broken");
      const again = () => image.isConnected && image.setAttribute("src", `${url}${url.includes("?") ? "&" : "?"}again=${attempt}`);
      if (attempt < PATIENCE.length) setTimeout(again, PATIENCE[attempt] * 1000);
      attempt += 1;
    });
    image.src = url;
  }
}

/** @param {import("./ranking.js").Answer} answer @param {number} position */
function pairBadge({ tiers, none }, position) {
  if (none) return "not acceptable";
  if (tiers.length === 1) return "equal";
  return tiers[0]?.[0] === position ? "better" : "";
}
