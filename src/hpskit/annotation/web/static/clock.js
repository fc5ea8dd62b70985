/** Seconds in which somebody was at work: the page in front, and a hand moving within the last half minute. */
const IDLE = 30_000;

export class ActiveClock {
  constructor() {
    this.total = 0;
    this.last = performance.now();
    this.touched = performance.now();
    for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "scroll"]) {
      window.addEventListener(event, () => this.#tick(true), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => this.#tick(!document.hidden));
  }

  /** For the next task. @param {number} [seconds] that have been spent on it already */
  restart(seconds = 0) {
    this.total = seconds * 1000;
    this.last = performance.now();
    this.touched = this.last;
  }

  /** @returns {number} with one decimal */
  seconds() {
    this.#tick(false);
    return Math.round(this.total / 100) / 10;
  }

  /** @param {number} within ms @returns {boolean} */
  active(within) {
    return !document.hidden && performance.now() - this.touched < within;
  }

  /** @param {boolean} hand */
  #tick(hand) {
    const now = performance.now();
    const until = document.hidden && !hand ? this.last : Math.min(now, this.touched + IDLE);
    this.total += Math.max(0, until - this.last);
    this.last = now;
    if (hand) this.touched = now;
  }
}
