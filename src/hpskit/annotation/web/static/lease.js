/** The time that a task belongs to this person. Somebody who works keeps it; after a long pause the page asks. */
import { ApiError, ask } from "./api.js";
import { hideBanner, showBanner } from "./status.js";

const EARLY = 0.7; // of the lease: when it is renewed

export class Lease {
  /** @param {import("./clock.js").ActiveClock} clock @param {{gone: () => void, session: () => void}} tell */
  constructor(clock, tell) {
    Object.assign(this, { clock, tell, timers: [] });
  }

  /** The task is on the screen. @param {{assignment: string, expires_in: number}} task */
  begin(task) {
    this.task = task;
    this.#renew();
  }

  end() {
    this.timers.forEach(clearTimeout);
    this.task = null;
    hideBanner("lease");
  }

  async #renew() {
    const { task } = this;
    const span = task.expires_in * 1000;
    this.timers.forEach(clearTimeout);
    this.timers = [setTimeout(() => this.clock.active(span * EARLY) && this.#renew(), span * EARLY), setTimeout(() => this.#over(), span)];
    try {
      await ask("POST", `/api/assignments/${task.assignment}/seen`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.task !== task) return;
      if (error.session) this.tell.session();
      else if (!error.passing) this.tell.gone();
    }
  }

  #over() {
    showBanner("lease", "The time for this task is over. You may still submit: the answer is kept.", { "Go on": () => this.#renew() });
  }
}
