/**
 * One task on the screen: its state, its cards and strip, its draft. The state is the only truth: every change goes
 * through `act`, and everything that is seen is drawn again from what comes out.
 *
 * @typedef {import("./ranking.js").Action} Action
 */
import { Board } from "./board.js";
import { askFlags } from "./dialogs.js";
import { byId } from "./dom.js";
import { Dragging } from "./drag.js";
import { Podium } from "./podium.js";
import { begin, obstacle, reduce, sameAnswer, standing, tierOf } from "./ranking.js";
import { announce, toast } from "./status.js";
import { cardName, hint, nameOf, objection, report } from "./words.js";

const SEEN = 700; // ms: the choice of a pair stays this long on the screen before it goes

export class TaskScreen {
  /**
   * @param {any} task as the server gives it
   * @param {{drafts: import("./drafts.js").Drafts|null, view: import("./zoom.js").View, large: import("./large.js").Large,
   *          submit: (screen: TaskScreen) => void}} parts `drafts` is null for an earlier vote that is being changed
   */
  constructor(task, { drafts, view, large, submit }) {
    Object.assign(this, { task, drafts, view, large, submitted: submit });
    const { ties, partial, none, ratings, flags } = task;
    this.pair = task.mode === "pair";
    const rules = { n: task.images.length, ties: ties && !this.pair, partial: partial && !this.pair, none, ratings, flags };
    this.state = begin(rules, task.vote?.answer ?? drafts?.open(task.draft) ?? null);
    this.stored = task.vote?.answer ?? null;
    this.going = 0;
    this.done = false;
    this.active = 0;
  }

  /** Put it on the page. */
  mount() {
    this.view.reset();
    this.large.use(this.task.images);
    document.body.classList.toggle("pairwise", this.pair);
    this.drag = this.pair ? null : new Dragging({
      find: (x, y) => this.podium.find(x, y), show: (target) => this.podium.show(target),
      drop: (position, target) => this.act({ type: "put", position, ...target }), ghost: (position) => this.podium.ghost(position),
    });
    this.board = new Board(byId("grid"), { images: this.task.images, rules: this.state.rules, pair: this.pair }, {
      choose: (position) => this.choose(position), act: (action) => this.act(action), look: (position) => this.large.open(position),
      peek: (position) => this.large.peek(position), flags: (position) => this.flags(position), loaded: () => this.draw(),
      drag: this.drag, view: this.view,
    });
    this.podium = this.pair ? null : new Podium(byId("podium"), this.task.images, {
      select: (position) => this.pick(position), drag: this.drag, ties: this.state.rules.ties,
    });
    byId("podium").hidden = this.pair;
    byId("tie-pair").hidden = !(this.pair && this.task.ties);
    byId("none").hidden = !this.task.none;
    this.draw();
  }

  /** Nothing of it may happen any more. */
  unmount() {
    clearTimeout(this.going);
    this.going = 0;
    this.drag?.cancel();
  }

  /** @param {Action} action */
  act(action) {
    if (this.done) return;
    if (this.pair && action.type === "none") return this.decide(this.state.now.answer.none ? null : "none");
    this.drag?.cancel();
    clearTimeout(this.going);
    this.going = 0;
    const before = this.state;
    this.state = reduce(before, action);
    announce(report(before, this.state, action));
    if (this.state !== before) this.drafts?.save(this.state.now.answer);
    this.draw();
  }

  /** An image without a rank takes the next one; a ranked one opens its menu. @param {number} position */
  choose(position) {
    if (this.pair) return this.decide(position === 0 ? "left" : "right");
    if (tierOf(this.state.now.answer, position) >= 0) return this.board.openMenu(position, this.state);
    this.board.menu = null;
    return this.act({ type: "place", position });
  }

  /** The same by key: a ranked image only takes the focus. @param {number} position */
  pick(position) {
    if (tierOf(this.state.now.answer, position) < 0) this.choose(position);
    else announce(cardName(this.state, position));
    this.board.focus(position);
  }

  /** A pair is decided by one act, seen for a moment, and sent. @param {"left"|"right"|"tie"|"none"|null} choice */
  decide(choice) {
    if (choice === null) return this.act({ type: "clear" });
    if ((choice === "tie" && !this.task.ties) || (choice === "none" && !this.task.none)) return undefined;
    this.act({ type: "choose", choice });
    // A change of an earlier vote, and ratings, wait for Submit.
    if (!this.stored && !this.task.ratings) this.going = setTimeout(() => this.submit(), SEEN);
    this.draw();
    return undefined;
  }

  /** Hand it in, if it can be. */
  submit() {
    clearTimeout(this.going);
    this.going = 0;
    if (this.done) return;
    const why = this.why();
    if (why) {
      announce(why);
      toast(why);
      this.draw();
      return;
    }
    this.drag?.cancel();
    this.submitted(this);
  }

  /** @returns {string|null} what stands in the way */
  why() {
    if (this.stored && sameAnswer(this.stored, this.state.now.answer)) return "Nothing is changed yet";
    return objection(this.state, [...this.board.loading]);
  }

  /** @param {number|null} position */
  async flags(position) {
    if (position === null || !this.state.rules.flags.length) return;
    const had = this.state.now.answer.flags[position] ?? [];
    await askFlags(`Problems of ${nameOf(position).toLowerCase()}`, this.task.flags, had,
      (name) => this.act({ type: "flag", position, name }));
  }

  /** Everything that is seen, from the state. */
  draw() {
    if (!this.board) return;
    const { state } = this;
    this.board.update(state);
    this.podium?.update(state);
    this.large.update();
    byId("hint").textContent = this.going ? `${hintOfPair(state)}: sending. Undo (Z)` : this.pair ? hintOfPair(state) : hint(state);
    const off = (id, is) => byId(id).setAttribute("aria-disabled", String(is));
    off("undo", state.past.length === 0);
    off("redo", state.future.length === 0);
    off("submit", this.why() !== null);
    byId("submit").classList.toggle("ready", this.why() === null);
    byId("none").setAttribute("aria-pressed", String(state.now.answer.none));
    byId("tie-pair").setAttribute("aria-pressed", String(this.pair && state.now.answer.tiers.length === 1));
  }

  /** @param {number} position @returns {string} for the large view */
  title(position) {
    const { rank } = standing(this.state, position);
    return this.pair || !rank ? nameOf(position) : `${nameOf(position)}, rank ${rank}`;
  }
}

/** @param {import("./ranking.js").State} state */
function hintOfPair(state) {
  if (obstacle(state) !== null) return hint(state);
  const { tiers, none } = state.now.answer;
  if (none) return "None is acceptable";
  return tiers.length === 1 ? "Equally good" : `${nameOf(tiers[0][0])} is better`;
}
