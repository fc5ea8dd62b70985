/**
 * Votes on their way. Each lies in localStorage from the moment it is submitted until the server has acknowledged it,
 * under an id made here: sent twice, it is the same vote.
 *
 * @typedef {import("./ranking.js").Answer} Answer
 * @typedef {{vote: string, assignment: string, revision: number, answer: Answer, active_seconds: number,
 *            made: number, refused?: string}} Letter
 */
import { ApiError, insist } from "./api.js";

/** @returns {string} a version 4 UUID; crypto.randomUUID is missing on plain http */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** localStorage, or memory where it is forbidden or full. */
export class Shelf {
  /** @param {string} prefix */
  constructor(prefix) {
    this.prefix = prefix;
    this.memory = new Map();
  }

  /** @param {string} key @param {unknown} value @returns {boolean} whether it outlives the page */
  set(key, value) {
    this.memory.set(key, value);
    try {
      localStorage.setItem(this.prefix + key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }

  /** @param {string} key @returns {any} */
  get(key) {
    try {
      const text = localStorage.getItem(this.prefix + key);
      if (text !== null) return JSON.parse(text);
    } catch {
      return this.memory.get(key) ?? null;
    }
    return this.memory.get(key) ?? null;
  }

  /** @param {string} key */
  delete(key) {
    this.memory.delete(key);
    try {
      localStorage.removeItem(this.prefix + key);
    } catch {
      // forbidden: then it was never there
    }
  }

  /** @returns {string[]} */
  keys() {
    const found = new Set(this.memory.keys());
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(this.prefix)) found.add(key.slice(this.prefix.length));
      }
    } catch {
      // forbidden
    }
    return [...found];
  }
}

export class Outbox {
  /**
   * @param {string} person keeps the votes of two people at one machine apart
   * @param {{changed: () => void, stored: (letter: Letter, said: any) => void, session: () => void}} tell
   */
  constructor(person, tell) {
    this.shelf = new Shelf(`hpskit.vote.${person}.`);
    this.tell = tell;
    this.sending = null;
    this.wait = 0;
    this.locked = false;
    window.addEventListener("online", () => this.flush());
  }

  /** @returns {Letter[]} oldest first */
  letters() {
    return this.shelf.keys().map((key) => this.shelf.get(key)).filter(Boolean).sort((a, b) => a.made - b.made);
  }

  /** @returns {Letter[]} not yet answered */
  pending() {
    return this.letters().filter((letter) => !letter.refused);
  }

  /** @returns {Letter[]} refused for good; kept until the person has read it */
  refused() {
    return this.letters().filter((letter) => letter.refused);
  }

  /** @param {Letter} letter @returns {boolean} whether it would survive that the page is closed now */
  add(letter) {
    const safe = this.shelf.set(letter.vote, letter);
    this.tell.changed();
    this.flush();
    return safe;
  }

  /** @param {string} vote */
  drop(vote) {
    this.shelf.delete(vote);
    this.tell.changed();
  }

  /** Send what is there; more than one call at a time makes no second round. @returns {Promise<void>} */
  flush() {
    this.sending ??= this.#send().finally(() => {
      this.sending = null;
    });
    return this.sending;
  }

  async #send() {
    for (let letter = this.pending()[0]; letter && !this.locked; letter = this.pending()[0]) {
      const { vote, made, ...body } = letter;
      try {
        const said = await insist("PUT", `/api/votes/${vote}`, body, { onWait: (seconds) => this.#waiting(seconds) });
        this.wait = 0;
        this.#forget(letter);
        this.tell.stored(letter, said);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        this.wait = 0;
        if (error.session) this.locked = true;
        else this.shelf.set(vote, { ...letter, refused: error.message });
        if (error.session) this.tell.session();
      }
      this.tell.changed();
    }
  }

  /** A newer answer may have been written meanwhile; that one stays. @param {Letter} letter */
  #forget(letter) {
    if (this.shelf.get(letter.vote)?.made === letter.made) this.shelf.delete(letter.vote);
  }

  /** @param {number} seconds */
  #waiting(seconds) {
    this.wait = seconds;
    this.tell.changed();
  }
}
