/**
 * One zoom and pan for all images of a task. The view is kept in fractions of an image, so images of any size and shape
 * show the same part, on the board as in the large view.
 */
const LARGEST = 12;
const STEP = 1.4;
const MOVED = 4; // px: a shorter drag is a click

export class View {
  /** @param {HTMLElement} root carries --zoom, --x and --y, which the images inherit @param {() => void} [changed] */
  constructor(root, changed = () => {}) {
    this.root = root;
    this.changed = changed;
    this.reset();
  }

  /** The whole image. */
  reset() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.#apply();
  }

  /**
   * @param {number} factor
   * @param {number} [u] what stays where it is: its distance from the middle, in widths of the image as it is shown
   * @param {number} [v] the same in heights
   */
  zoom(factor, u = 0, v = 0) {
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor));
    this.x += u * (1 - this.scale / scale);
    this.y += v * (1 - this.scale / scale);
    this.scale = scale;
    this.#apply();
  }

  /** @param {number} u widths of the image as it is shown, to the right @param {number} v heights, down */
  pan(u, v) {
    this.x -= u;
    this.y -= v;
    this.#apply();
  }

  /** @param {1|-1} direction */
  step(direction) {
    this.zoom(direction > 0 ? STEP : 1 / STEP);
  }

  get zoomed() {
    return this.scale > 1.001;
  }

  #apply() {
    const limit = (1 - 1 / this.scale) / 2;
    this.x = Math.min(limit, Math.max(-limit, this.x));
    this.y = Math.min(limit, Math.max(-limit, this.y));
    const set = (name, value) => this.root.style.setProperty(name, value);
    set("--zoom", String(this.scale));
    set("--x", `${-this.x * 100}%`);
    set("--y", `${-this.y * 100}%`);
    this.root.classList.toggle("zoomed", this.zoomed);
    this.changed();
  }
}

/**
 * Let a cell with an image in it turn wheel, drag and pinch into changes of the view.
 * On the board a finger and a plain wheel scroll the page, so there `free` is false: the mouse drags once it is zoomed,
 * and a wheel zooms with Ctrl, which is also how a trackpad reports a pinch.
 * @param {HTMLElement} cell @param {View} view @param {{free: boolean}} how
 */
export function attach(cell, view, { free }) {
  const fingers = new Map();
  let moved = 0;

  /** Distances in the image as it is shown, from the middle of the cell. */
  const fraction = (dx, dy) => {
    const image = cell.querySelector("img");
    return [dx / (image.offsetWidth * view.scale), dy / (image.offsetHeight * view.scale)];
  };
  const fromMiddle = (x, y) => {
    const box = cell.getBoundingClientRect();
    return fraction(x - box.left - box.width / 2, y - box.top - box.height / 2);
  };

  cell.addEventListener("wheel", (event) => {
    if (!free && !event.ctrlKey) return;
    event.preventDefault();
    view.zoom(Math.exp(-Math.max(-50, Math.min(50, event.deltaY)) / (event.ctrlKey ? 60 : 250)),
      ...fromMiddle(event.clientX, event.clientY));
  }, { passive: false });

  cell.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (!free && (event.pointerType !== "mouse" || !view.zoomed))) return;
    if (fingers.size === 0) moved = 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });

  const move = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [oldX, oldY] = before;
    const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moved += Math.hypot(event.clientX - oldX, event.clientY - oldY);
    if (moved > MOVED && !cell.hasPointerCapture(event.pointerId)) cell.setPointerCapture(event.pointerId);
    const share = 1 / (others.length + 1);
    view.pan(...fraction((event.clientX - oldX) * share, (event.clientY - oldY) * share));
    if (others.length === 1) {
      const [[x, y]] = others;
      const spread = Math.hypot(event.clientX - x, event.clientY - y) / Math.max(1, Math.hypot(oldX - x, oldY - y));
      view.zoom(spread, ...fromMiddle((event.clientX + x) / 2, (event.clientY + y) / 2));
    }
  };
  cell.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) {
    cell.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  cell.addEventListener("click", (event) => { // the end of a pan is not a choice
    if (moved > MOVED) event.stopPropagation();
    moved = 0;
  }, true);
}
