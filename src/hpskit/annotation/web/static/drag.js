/**
 * Dragging by a handle with Pointer Events. Nothing on the page changes during a drag but the ghost and the mark of where
 * it would land; the model is asked once, at the end, or not at all. So a cancelled drag has nothing to restore.
 *
 * @typedef {{gap?: number, tier?: number}} Target  as the model's action `put` reads it
 */
const STARTS = 5; // px

export class Dragging {
  /**
   * @param {{find: (x: number, y: number) => Target|null, show: (target: Target|null) => void,
   *          drop: (position: number, target: Target) => void, ghost: (position: number) => HTMLElement}} does
   */
  constructor(does) {
    this.does = does;
    this.drag = null;
    this.onMove = (event) => this.#move(event);
    this.onUp = (event) => this.#up(event);
    this.onCancel = (event) => event.pointerId === this.drag?.pointer && this.cancel();
    this.onKey = (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.cancel();
    };
    this.onLeave = () => this.cancel();
  }

  /** @param {HTMLElement} handle @param {number} position */
  attach(handle, position) {
    handle.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.drag) return;
      this.drag = { position, pointer: event.pointerId, handle, x: event.clientX, y: event.clientY, ghost: null };
      handle.setPointerCapture(event.pointerId);
      handle.addEventListener("pointermove", this.onMove);
      handle.addEventListener("pointerup", this.onUp);
      handle.addEventListener("pointercancel", this.onCancel);
      window.addEventListener("keydown", this.onKey, true);
      window.addEventListener("blur", this.onLeave);
    });
    handle.addEventListener("dragstart", (event) => event.preventDefault());
  }

  /** Whatever it was, it did not happen. */
  cancel() {
    if (!this.drag) return;
    const { handle, pointer, ghost } = this.drag;
    this.drag = null;
    handle.removeEventListener("pointermove", this.onMove);
    handle.removeEventListener("pointerup", this.onUp);
    handle.removeEventListener("pointercancel", this.onCancel);
    window.removeEventListener("keydown", this.onKey, true);
    window.removeEventListener("blur", this.onLeave);
    if (handle.hasPointerCapture(pointer)) handle.releasePointerCapture(pointer);
    ghost?.remove();
    document.body.classList.remove("dragging");
    this.does.show(null);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const { drag } = this;
    if (event.pointerId !== drag?.pointer) return;
    if (!drag.ghost) {
      if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < STARTS) return;
      drag.ghost = this.does.ghost(drag.position);
      document.body.append(drag.ghost);
      document.body.classList.add("dragging");
    }
    drag.ghost.style.setProperty("transform", `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -60%)`);
    this.does.show(this.does.find(event.clientX, event.clientY));
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (event.pointerId !== this.drag?.pointer) return;
    const { position, ghost } = this.drag;
    const target = ghost ? this.does.find(event.clientX, event.clientY) : null;
    this.cancel();
    if (target) this.does.drop(position, target);
  }
}
