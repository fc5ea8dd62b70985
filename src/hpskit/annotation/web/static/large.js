/**
 * The large view: one image, or two side by side, with the zoom of the board. Hovering shows it in passing.
 */
import { byId, make } from "./dom.js";
import { fit } from "./layout.js";
import { nameOf } from "./words.js";
import { attach } from "./zoom.js";

const HOVER = 250; // ms: passing over is not looking

export class Large {
  /**
   * @param {import("./zoom.js").View} view
   * @param {{choose: (position: number) => void, nameOf: (position: number) => string, closed: (position: number) => void}} does
   */
  constructor(view, does) {
    this.view = view;
    this.does = does;
    this.dialog = byId("large");
    this.stage = byId("stage");
    this.images = [];
    this.shown = [];
    this.timer = 0;
    const on = (id, action) => byId(id).addEventListener("click", action);
    on("large-in", () => view.step(1));
    on("large-out", () => view.step(-1));
    on("large-whole", () => view.reset());
    on("large-before", () => this.turn(-1));
    on("large-after", () => this.turn(1));
    on("large-beside", () => this.compare());
    on("large-choose", () => this.#choose());
    on("large-close", () => this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.dialog.addEventListener("close", () => does.closed(this.shown[0]));
    window.addEventListener("resize", () => this.dialog.open && this.#size(this.stage));
  }

  /** @param {import("./board.js").Picture[]} images */
  use(images) {
    this.peek(null);
    if (this.dialog.open) this.dialog.close();
    this.images = images;
  }

  /** @param {number} position @param {number} [beside] */
  open(position, beside) {
    this.peek(null);
    this.shown = beside === undefined ? [position] : [position, beside];
    if (!this.dialog.open) this.dialog.showModal();
    this.update();
  }

  /** With another image beside it, or alone again. */
  compare() {
    const [first, second] = this.shown;
    this.shown = second === undefined ? [first, (first + 1) % this.images.length] : [first];
    this.update();
  }

  /** The next image, in the last pane. @param {1|-1} by */
  turn(by) {
    const count = this.images.length;
    const last = this.shown.pop();
    let next = (last + by + count) % count;
    if (count > 2 && this.shown.includes(next)) next = (next + by + count) % count;
    this.shown.push(next);
    this.update();
  }

  /** Show what there is to show. */
  update() {
    if (!this.dialog.open) return;
    this.stage.replaceChildren(...this.shown.map((position) => this.#pane(position, true)));
    this.#size(this.stage);
    byId("large-name").textContent = this.shown.map(this.does.nameOf).join(" | ");
    byId("large-beside").setAttribute("aria-pressed", String(this.shown.length > 1));
    byId("large-choose").setAttribute("aria-label", `Choose ${nameOf(this.shown[0]).toLowerCase()}`);
  }

  /** Show an image while the mouse rests on its button. @param {number|null} position */
  peek(position) {
    clearTimeout(this.timer);
    const place = byId("peek");
    place.hidden = true;
    if (position === null || this.dialog.open) return;
    this.timer = setTimeout(() => {
      place.replaceChildren(this.#pane(position, false));
      place.style.setProperty("top", `${byId("prompt").getBoundingClientRect().bottom + 8}px`);
      place.hidden = false;
      this.#size(place);
    }, HOVER);
  }

  #pane(position, live) {
    const { url, width, height } = this.images[position];
    const picture = make("img", { src: url, alt: nameOf(position), width, height, draggable: "false" });
    const pane = make("div", { class: "pane", "data-position": position }, picture, make("span", { class: "number", text: position + 1 }));
    if (live) attach(pane, this.view, { free: true });
    return pane;
  }

  #size(place) {
    for (const pane of place.querySelectorAll(".pane")) {
      const size = fit(this.images[Number(pane.dataset.position)], { width: pane.clientWidth, height: pane.clientHeight });
      const picture = pane.querySelector("img");
      picture.style.setProperty("width", `${size.width}px`);
      picture.style.setProperty("height", `${size.height}px`);
    }
  }

  #choose() {
    this.does.choose(this.shown[0]);
    this.update();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest("button") !== null;
    const pan = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
    if (pan && this.view.zoomed) this.view.pan(...pan.map((part) => part / this.view.scale));
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") this.turn(event.key === "ArrowLeft" ? -1 : 1);
    else if (["+", "="].includes(event.key)) this.view.step(1);
    else if (["-", "_"].includes(event.key)) this.view.step(-1);
    else if (event.key === "0") this.view.reset();
    else if (digit >= 0 && digit < this.images.length) this.open(digit, this.shown[1] === digit ? undefined : this.shown[1]);
    else if (event.key.toLowerCase() === "c") this.compare();
    else if (event.key === " " && !onButton) this.dialog.close();
    else if (event.key === "Enter" && !onButton) this.#choose();
    else return;
    event.preventDefault();
  }
}
