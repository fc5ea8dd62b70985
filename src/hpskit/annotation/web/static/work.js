/**
 * The annotator's page: which task is on the screen, which one is fetched ahead, and what becomes of answers.
 */
import { ApiError, ask, insist } from "./api.js";
import { ActiveClock } from "./clock.js";
import { askEarlier, askSkip, showPractice } from "./dialogs.js";
import { byId, make, plural } from "./dom.js";
import { Drafts } from "./drafts.js";
import { listen } from "./input.js";
import { Large } from "./large.js";
import { Lease } from "./lease.js";
import { newId, Outbox, Shelf } from "./outbox.js";
import { fitPrompt, showPrompt } from "./prompt.js";
import { announce, describe, hideBanner, showBanner, showStatus, toast } from "./status.js";
import { TaskScreen } from "./task.js";
import { View } from "./zoom.js";

const GONE = [404, 409, 410];

class Work {
  constructor() {
    const person = document.querySelector('meta[name="person"]')?.content ?? "";
    this.clock = new ActiveClock();
    this.drafts = new Shelf(`hpskit.draft.${person}.`);
    this.outbox = new Outbox(person, {
      changed: () => this.status(), stored: (letter, said) => this.#stored(letter, said), session: () => this.#sessionEnded(),
    });
    this.lease = new Lease(this.clock, { gone: () => this.#gone(), session: () => this.#sessionEnded() });
    this.view = new View(byId("work"), () => this.#showZoom());
    this.large = new Large(this.view, {
      choose: (position) => this.screen?.pick(position), nameOf: (position) => this.screen?.title(position) ?? "",
      closed: (position) => position !== undefined && this.screen?.board.focus(position),
    });
    this.screen = null;
    this.aside = null;
    this.ahead = null;
    this.waiting = new Map();
    this.any = false;
    this.safe = true;
    window.addEventListener("resize", () => this.layout());
    window.addEventListener("pagehide", () => this.screen?.drafts?.leave());
    window.addEventListener("beforeunload", (event) => !this.safe && this.outbox.pending().length && event.preventDefault());
    listen(this);
  }

  async start() {
    this.outbox.flush();
    this.#count(await ask("GET", "/api/me").catch(() => null));
    await this.next();
  }

  /** The task that was fetched ahead, or else a new one. */
  async next() {
    const fetched = await this.ahead;
    this.ahead = null;
    if (fetched) return this.show(fetched);
    try {
      const said = await insist("POST", "/api/next", { holding: this.#holding() }, { onWait: () => this.#noTask("Waiting for the server…") });
      return said.task ? this.show(said.task) : this.#none(said);
    } catch (error) {
      if (error instanceof ApiError && error.session) return this.#sessionEnded();
      if (!(error instanceof ApiError)) throw error;
      return this.#noTask(`There is no task now: ${error.message}`, { "Try again": () => this.next() });
    }
  }

  /** @param {any} task @param {boolean} [earlier] a vote that is to be changed */
  show(task, earlier = false) {
    const drafts = earlier ? null : new Drafts(this.drafts, task.assignment, {
      changed: () => this.status(), conflict: (theirs) => this.#conflict(theirs),
      refused: (error) => (error.session ? this.#sessionEnded() : GONE.includes(error.status) && this.#gone()),
    }, () => this.clock.seconds());
    this.#mount(new TaskScreen(task, { drafts, view: this.view, large: this.large, submit: (screen) => this.submit(screen) }));
    if (!earlier) this.lease.begin(task);
    this.#prefetch();
  }

  #mount(screen) {
    clearTimeout(this.retry);
    this.screen?.unmount();
    if (this.screen) this.screen.active = this.clock.seconds();
    this.screen = screen;
    this.clock.restart(screen.active);
    ["banner", "lease"].forEach(hideBanner);
    byId("empty").hidden = true;
    byId("task").hidden = false;
    showPrompt(screen.task.prompt);
    screen.mount();
    this.layout();
    window.scrollTo(0, 0);
    if (document.activeElement === document.body) byId("work").focus({ preventScroll: true });
    const { task } = screen;
    byId("practice").hidden = !task.practice;
    byId("prompt").classList.toggle("practice", task.practice);
    byId("back").hidden = this.aside === null;
    byId("submit").textContent = screen.stored ? "Submit change" : "Submit";
    byId("skip").hidden = screen.stored !== null;
    byId("skip").setAttribute("aria-disabled", String(task.skips_left <= 0));
    announce(`${screen.stored ? "An earlier task" : "New task"}: ${plural(task.images.length, "image")}. ${byId("hint").textContent}`);
    this.status();
  }

  layout() {
    if (!this.screen) return;
    fitPrompt();
    const grid = byId("grid");
    const dock = byId("dock").offsetHeight;
    const top = grid.getBoundingClientRect().top + window.scrollY;
    this.screen.board.layout({ width: grid.clientWidth, height: window.innerHeight - top - dock - 12 });
    document.documentElement.style.setProperty("--dock", `${dock + 8}px`);
    document.documentElement.style.setProperty("--top", `${byId("prompt").offsetHeight + 8}px`);
  }

  /** @param {TaskScreen} screen */
  async submit(screen) {
    const { task, state, stored } = screen;
    const letter = {
      vote: task.vote?.id ?? newId(), assignment: task.assignment, revision: (task.vote?.revision ?? 0) + 1,
      answer: state.now.answer, active_seconds: this.clock.seconds(), made: Date.now(),
    };
    screen.done = true;
    screen.drafts?.close();
    if (!stored) this.lease.end();
    this.any = true;
    const answered = task.practice && !stored ? this.#answerTo(letter.vote) : null;
    this.safe = this.outbox.add(letter);
    if (stored) return this.back();
    if (answered) {
      byId("hint").textContent = "Comparing your order with the reference…";
      await answered;
      if (this.leaving) return undefined;
    }
    return this.next();
  }

  async skip() {
    const { screen } = this;
    if (!screen || screen.stored || screen.done) return;
    if (screen.task.skips_left <= 0) return void toast("You have no skips left");
    const reason = await askSkip(screen.task.skip_reasons, screen.task.skips_left);
    if (reason === null || this.screen !== screen) return;
    try {
      const said = await ask("POST", `/api/assignments/${screen.task.assignment}/skip`, { reason });
      screen.done = true;
      screen.drafts.close();
      const fetched = await this.ahead;
      if (fetched) fetched.skips_left = said.skips_left;
      await this.next();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.session) this.#sessionEnded();
      else toast(`Not skipped: ${error.message}`);
    }
  }

  /** To one of the last votes; the task of now waits as it is. */
  async earlier() {
    if (this.aside || this.screen?.going) return;
    try {
      await Promise.race([this.outbox.flush(), new Promise((resolve) => setTimeout(resolve, 3000))]);
      const { votes } = await ask("GET", "/api/history");
      const assignment = await askEarlier(votes);
      if (!assignment) return;
      if (this.outbox.pending().some((letter) => letter.assignment === assignment)) {
        toast("That answer is still on its way; try again when it is saved");
        return;
      }
      const { task } = await ask("GET", `/api/assignments/${assignment}`);
      if (!task.vote) return void toast("That task can no longer be changed");
      this.aside = this.screen ?? "none";
      this.show(task, true);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(`Earlier tasks cannot be shown: ${error.message}`);
    }
  }

  /** From an earlier task to the one that waits. */
  back() {
    const { aside } = this;
    this.aside = null;
    if (aside instanceof TaskScreen && !aside.done) this.#mount(aside);
    else this.next();
  }

  status() {
    const { outbox } = this;
    const refused = outbox.refused();
    const drafts = this.screen?.drafts ?? null;
    if (drafts && drafts.version > 0) this.any = true;
    showStatus(describe({
      pending: outbox.pending().length, refused: refused.map((letter) => letter.refused), wait: outbox.wait, locked: outbox.locked,
      draft: this.screen?.done ? null : drafts?.state ?? null, any: this.any,
    }));
    refused.forEach((letter) => this.waiting.get(letter.vote)?.());
    if (refused.length && byId("failed").hidden) {
      const [{ vote, refused: why, ...letter }] = refused;
      showBanner("failed", `An answer was not stored: ${why}`, {
        "Try again": () => this.outbox.add({ ...letter, vote }), "Let it go": () => this.outbox.drop(vote),
      });
    }
  }

  #holding() {
    const pending = this.outbox.pending().map((letter) => letter.assignment);
    const held = [this.screen, this.aside].filter((screen) => screen instanceof TaskScreen && !screen.done && !screen.stored);
    return [...new Set([...held.map((screen) => screen.task.assignment), ...pending])];
  }

  /** Lease the next task and load its images; it is not seen before it is shown. */
  #prefetch() {
    if (this.ahead || this.screen.task.practice) return;
    this.ahead = ask("POST", "/api/next", { holding: this.#holding() }).then(({ task }) => {
      this.preloaded = task?.images.map(({ url }) => Object.assign(new Image(), { src: url }));
      return task;
    }).catch(() => null);
  }

  #answerTo(vote) {
    return new Promise((resolve) => this.waiting.set(vote, resolve));
  }

  async #stored(letter, said) {
    this.#count(said);
    this.any = true;
    if (said.late) toast("The task had been finished by others; your answer is kept as well");
    if (said.practice) {
      await showPractice(said.practice);
      this.leaving = said.practice.passed !== null;
      if (this.leaving) window.location.assign("/");
    }
    this.waiting.get(letter.vote)?.();
  }

  #count(said) {
    if (said?.wanted !== undefined) this.wanted = said.wanted;
    if (said?.done === undefined) return;
    byId("progress").textContent = this.wanted ? `${said.done} of ${this.wanted}` : `${said.done} done`;
  }

  /** @param {{version: number, answer: import("./ranking.js").Answer}} theirs */
  #conflict(theirs) {
    const { screen } = this;
    const settle = (action) => {
      screen.drafts.settle(theirs.version);
      action();
    };
    showBanner("banner", "This task was changed in another tab.", {
      "Show that order": () => settle(() => {
        screen.drafts.dirty = null;
        screen.act({ type: "adopt", answer: theirs.answer });
      }),
      "Keep what is here": () => settle(() => screen.drafts.save(screen.state.now.answer)),
    });
  }

  #gone() {
    const { screen } = this;
    if (!screen || screen.done) return;
    screen.done = true;
    screen.drafts?.close();
    this.lease.end();
    showBanner("banner", "The time for this task is over and it went to somebody else.", { "Next task": () => this.next() });
  }

  #sessionEnded() {
    this.outbox.locked = true;
    this.status();
    showBanner("failed", "Your session has ended. Open your personal link again: answers that are not sent yet are kept in this browser and are sent then.",
      { "Reload": () => window.location.reload() });
  }

  #none({ reason, seconds, text }) {
    if (reason !== "wait") return this.#noTask(text ?? "There is nothing to do now.", { "Go on": () => window.location.assign("/") });
    const until = Math.max(5, seconds ?? 60);
    this.#noTask(`${text ?? "All tasks are with other people at the moment."} Come back in ${plural(Math.ceil(until / 60), "minute")}; this page looks by itself.`,
      { "Look now": () => this.next() });
    this.retry = setTimeout(() => this.next(), 1000 * Math.min(until, 60)); // a task may come back sooner
    return undefined;
  }

  #noTask(text, ways = {}) {
    clearTimeout(this.retry);
    this.screen?.unmount();
    this.screen = null;
    byId("task").hidden = true;
    byId("empty").hidden = false;
    byId("empty").replaceChildren(make("p", { text }), ...Object.entries(ways).map(([label, action]) =>
      make("button", { type: "button", text: label, onclick: action })));
    announce(text);
  }

  #showZoom() {
    byId("whole").hidden = !this.view?.zoomed;
  }
}

const work = new Work();
work.start();
