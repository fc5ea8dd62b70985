/** Keep the figures of the open page fresh: fetch them anew while somebody looks, and change only what differs. */
const live = document.getElementById("live");
const state = document.getElementById("live-state");
const every = 1000 * Number(live.dataset.every);
let timer = 0;
let shown = "";

/** Put new figures in place; focus, places of scrolling and marked text stay. */
function swap(text) {
  const marked = document.getSelection();
  if (text === shown || (!marked.isCollapsed && live.contains(marked.anchorNode))) return;
  shown = text;
  const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const across = [...live.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
  const [left, top] = [scrollX, scrollY];
  live.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  [...live.querySelectorAll(".scroll")].forEach((part, at) => { part.scrollLeft = across[at] ?? 0; });
  if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  scrollTo({ left, top, behavior: "instant" });
}

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return; // goes on when the page is seen again
  try {
    const reply = await fetch(live.dataset.from, { cache: "no-store" });
    if (reply.status === 401 || reply.status === 404) {
      state.textContent = "Your session is over: open your link again.";
      return;
    }
    if (!reply.ok) throw new Error(String(reply.status));
    swap(await reply.text());
    state.textContent = "";
  } catch {
    state.textContent = "The server does not answer; these figures are older. Trying again.";
  }
  timer = setTimeout(refresh, every);
}

document.addEventListener("visibilitychange", refresh);
timer = setTimeout(refresh, every);
