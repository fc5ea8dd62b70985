/** Questions to the annotator: why to skip, what is wrong with an image, which earlier task, and what practice showed. */
import { byId, make, plural } from "./dom.js";

/** @param {string} id @param {() => void} [first] called before it opens @returns {Promise<string>} the button's value, "" when shut */
function answered(id, first) {
  const dialog = byId(id);
  first?.();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

/** @param {string[]} reasons @param {number} left @returns {Promise<string|null>} the reason */
export async function askSkip(reasons, left) {
  const said = await answered("skip-dialog", () => {
    byId("skip-left").textContent = `${plural(left, "skip")} left.`;
    byId("skip-reasons").replaceChildren(...reasons.map((reason, index) => make("label", { class: "choice" },
      make("input", { type: "radio", name: "reason", value: reason, required: true, ...(index ? {} : { autofocus: true }) }), reason)));
  });
  return said === "skip" ? byId("skip-dialog").querySelector("input:checked")?.value ?? null : null;
}

/**
 * @param {string} title @param {string[]} names @param {string[]} had
 * @param {(name: string) => void} toggle called at once: what is ticked is what is stored
 */
export function askFlags(title, names, had, toggle) {
  return answered("flags-dialog", () => {
    byId("flags-title").textContent = title;
    byId("flags-names").replaceChildren(...names.map((name) => {
      const box = make("input", { type: "checkbox", onchange: () => toggle(name) });
      box.checked = had.includes(name);
      return make("label", { class: "choice" }, box, name);
    }));
  });
}

/** @param {{assignment: string, prompt: string, changeable: boolean}[]} votes @returns {Promise<string>} an assignment, or "" */
export function askEarlier(votes) {
  return answered("earlier-dialog", () => {
    const rows = votes.map(({ assignment, prompt, changeable }) => make("li", {},
      make("button", { value: assignment, class: "row", dir: "auto", text: prompt.slice(0, 200), disabled: changeable ? null : true })));
    byId("earlier-list").replaceChildren(...rows);
    byId("earlier-none").hidden = rows.length > 0;
  });
}

/** @param {{score: number, passed: boolean|null, left: number, agreed: number, pairs: number}} practice */
export function showPractice({ score, passed, left, agreed, pairs }) {
  return answered("practice-dialog", () => {
    byId("practice-title").textContent = passed === null ? "Practice" : passed ? "You have passed" : "Not passed yet";
    byId("practice-score").textContent =
      `You agree with the reference on ${agreed} of ${plural(pairs, "clear pair")}. Your score so far: ${Math.round(score * 100)} %.`;
    byId("practice-left").textContent = passed === null ? `${plural(left, "practice task")} left.`
      : passed ? "The work begins now. The instructions stay open to you at any time."
        : "Please read the instructions again; the next page says how to go on.";
  });
}

/**
 * Which keys there are, and whether letters and digits are shortcuts.
 * @param {boolean} letters @param {(letters: boolean) => void} set called at once: the next key may come before the dialog is shut
 */
export function showKeys(letters, set) {
  return answered("keys-dialog", () => {
    const box = byId("keys-letters");
    box.checked = letters;
    box.onchange = () => set(box.checked);
  });
}
