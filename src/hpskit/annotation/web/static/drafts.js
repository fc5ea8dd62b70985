/**
 * The draft of the task on the screen: in localStorage at once, on the server soon after.
 *
 * @typedef {import("./ranking.js").Answer} Answer
 * @typedef {{version: number, answer: Answer}} Draft
 */
import { ApiError, ask, insist } from "./api.js";

const SOON = 500; // ms: one request for a burst of changes

export class Drafts {
  /**
   * @param {import("./outbox.js").Shelf} shelf @param {string} assignment
   * @param {{changed: () => void, conflict: (theirs: Draft) => void, refused: (error: ApiError) => void}} tell
   * @param {() => number} activeSeconds
   */
  constructor(shelf, assignment, tell, activeSeconds) {
    Object.assign(this, { shelf, assignment, tell, activeSeconds });
    this.version = 0;
    this.dirty = null;
    this.state = "saved";
    this.timer = 0;
    this.running = false;
    this.stopped = new AbortController();
  }

  /**
   * Where to begin: what the server has, unless this browser has something newer that never arrived.
   * @param {Draft|null} server @returns {Answer|null}
   */
  open(server) {
    this.version = server?.version ?? 0;
    const here = this.shelf.get(this.assignment);
    if (!here || here.version <= this.version) return server?.answer ?? null;
    this.save(here.answer);
    return here.answer;
  }

  /** @param {Answer} answer */
  save(answer) {
    this.dirty = answer;
    this.shelf.set(this.assignment, { version: this.#next(), answer });
    this.#say(this.state === "conflict" ? "conflict" : "saving");
    clearTimeout(this.timer);
    if (!this.running && this.state !== "conflict") this.timer = setTimeout(() => this.#send(), SOON);
  }

  /** The page is going away: one last request that outlives it. */
  leave() {
    if (this.dirty === null || this.state === "conflict" || this.stopped.signal.aborted) return;
    clearTimeout(this.timer);
    const body = { ...this.#body(this.dirty), version: this.#next() };
    ask("PUT", this.#path(), body, { keepalive: true }).then((said) => this.settle(said.version), () => {});
  }

  /** A request under way already carries the version after the last known one. @returns {number} */
  #next() {
    return this.version + (this.running ? 2 : 1);
  }

  /** The other tab's draft was taken, or is to be written over. @param {number} version of theirs */
  settle(version) {
    this.version = version;
    this.state = "saved";
  }

  /** Submitted or skipped: the draft has served. */
  close() {
    clearTimeout(this.timer);
    this.stopped.abort();
    this.shelf.delete(this.assignment);
  }

  async #send() {
    const { signal } = this.stopped;
    this.running = true;
    while (this.dirty !== null && !signal.aborted) {
      const answer = this.dirty;
      try {
        const onWait = () => this.#say("retrying");
        const said = await insist("PUT", this.#path(), this.#body(answer), { signal, onWait });
        this.version = said.version;
        if (this.dirty === answer) this.dirty = null;
      } catch (error) {
        if (!signal.aborted) this.#refused(error);
        break;
      }
    }
    this.running = false;
    if (this.dirty === null && !signal.aborted) this.#say("saved");
  }

  /** @param {unknown} error */
  #refused(error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 409 && error.body?.version !== undefined) {
      this.#say("conflict");
      this.tell.conflict({ version: error.body.version, answer: error.body.answer });
    } else {
      this.#say("refused");
      this.tell.refused(error);
    }
  }

  #path() {
    return `/api/assignments/${this.assignment}/draft`;
  }

  /** @param {Answer} answer */
  #body(answer) {
    return { version: this.version + 1, answer, active_seconds: this.activeSeconds() };
  }

  /** @param {string} state */
  #say(state) {
    this.state = state;
    this.tell.changed();
  }
}
