/**
 * The strip of ranked images, best first: the order at a glance, and where the handle drags to.
 *
 * @typedef {import("./ranking.js").State} State
 * @typedef {import("./drag.js").Target} Target
 */
import { make, ordinal } from "./dom.js";
import { unranked } from "./ranking.js";

export class Podium {
  /**
   * @param {HTMLElement} list @param {{url: string}[]} images
   * @param {{select: (position: number) => void, drag: import("./drag.js").Dragging, ties: boolean}} does
   */
  constructor(list, images, does) {
    this.list = list;
    this.does = does;
    this.items = images.map((image, position) => this.#item(image, position));
    this.mark = make("li", { class: "drop", "aria-hidden": "true", hidden: true });
    list.style.setProperty("--n", String(images.length));
    list.classList.toggle("crowded", images.length > 7);
    list.replaceChildren();
  }

  /** @param {State} state */
  update(state) {
    const tiers = state.now.answer.tiers.map((members, index) => {
      const rank = place(index + 1);
      const box = make("li", { class: members.length > 1 ? "tier tied" : "tier", "data-tier": index }, rank);
      members.forEach((position) => box.append(this.items[position]));
      return box;
    });
    const open = unranked(state).map((_, index) =>
      make("li", { class: "tier open", "aria-hidden": "true" }, place(tiers.length + index + 1)));
    this.list.replaceChildren(...tiers, ...open, this.mark);
    this.show(null);
  }

  /** Where a drag at this point would land, or null outside the strip. @param {number} x @param {number} y @returns {Target|null} */
  find(x, y) {
    const strip = this.list.getBoundingClientRect();
    const slack = 24; // px: a hand is not exact
    if (x < strip.left - slack || x > strip.right + slack || y < strip.top - slack || y > strip.bottom + slack) return null;
    const tiers = [...this.list.querySelectorAll(".tier:not(.open)")];
    if (tiers.length === 0) return { gap: 0 };
    const boxes = tiers.map((tier) => tier.getBoundingClientRect());
    const row = Math.min(...boxes.map((box) => distance(y, box.top, box.bottom)));
    const near = boxes.map((box, index) => ({ box, index })).filter(({ box }) => distance(y, box.top, box.bottom) === row);
    const { box, index } = near.reduce((one, other) =>
      (distance(x, other.box.left, other.box.right) < distance(x, one.box.left, one.box.right) ? other : one));
    const along = (x - box.left) / box.width;
    if (this.does.ties && along > 0.3 && along < 0.7) return { tier: index };
    return { gap: along < 0.5 ? index : index + 1 };
  }

  /** @param {Target|null} target */
  show(target) {
    const tiers = [...this.list.querySelectorAll(".tier:not(.open)")];
    tiers.forEach((tier, index) => tier.classList.toggle("onto", target?.tier === index));
    this.mark.hidden = target?.gap === undefined;
    if (this.mark.hidden) return;
    const before = tiers[target.gap];
    const beside = (before ?? tiers.at(-1) ?? this.list.querySelector(".tier")).getBoundingClientRect();
    const strip = this.list.getBoundingClientRect();
    const left = (before || tiers.length === 0 ? beside.left - 4 : beside.right + 1) - strip.left + this.list.scrollLeft;
    this.mark.style.setProperty("left", `${left}px`);
    this.mark.style.setProperty("top", `${beside.top - strip.top}px`);
    this.mark.style.setProperty("height", `${beside.height}px`);
  }

  /** A picture to carry along. @param {number} position @returns {HTMLElement} */
  ghost(position) {
    const picture = this.items[position].querySelector("img").cloneNode();
    return make("div", { class: "ghost", "aria-hidden": "true" }, picture);
  }

  #item({ url }, position) {
    const picture = make("img", { src: url, alt: "", draggable: "false", width: 48, height: 48 });
    const name = make("span", { class: "number", text: position + 1 });
    const choose = make("button", { type: "button", tabindex: "-1", class: "thumb", "aria-label": `Image ${position + 1}`,
      onclick: () => this.does.select(position) }, picture, name);
    const handle = make("span", { class: "handle", "aria-hidden": "true", title: "Drag to reorder" });
    this.does.drag.attach(handle, position);
    return make("div", { class: "item", "data-position": position }, choose, handle);
  }
}

/** @param {number} rank @returns {HTMLElement} its ordinal; where it is narrow, without the ending */
function place(rank) {
  return make("span", { class: "place" }, String(rank), make("span", { text: ordinal(rank).slice(String(rank).length) }));
}

/** @param {number} at @param {number} from @param {number} to */
function distance(at, from, to) {
  return at < from ? from - at : Math.max(0, at - to);
}
