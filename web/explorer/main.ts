// The router: which page the URL means, and what is around every page.
import { Api, ApiError } from "./api.ts";
import type { Context } from "./context.ts";
import { button, h } from "./dom.ts";
import { renderMap } from "./map/page.ts";
import { type State, Store } from "./state.ts";

const api = new Api();
const store = new Store();
const main = h("main", { id: "main", tabindex: -1 });
document.getElementById("page")?.append(h("header", { class: "top" }, h("a", { href: store.base }, "FoldAtlas")), main);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // with <base>, "#main" is another page
  main.focus();
});

let leaving = new AbortController();

async function show(state: State): Promise<void> {
  leaving.abort();
  leaving = new AbortController();
  const context: Context = { api, store, signal: leaving.signal };
  const root = h("div", { class: "loading", "aria-busy": "true" });
  main.replaceChildren(root);
  try {
    if (state.protein === null) await renderMap(root, context);
    else await (await import("./protein/protein.ts")).renderProtein(root, state.protein, context);
  } catch (error) {
    if (context.signal.aborted) return;
    root.replaceChildren(failure(error, () => void show(store.state)));
  }
  root.classList.remove("loading");
  root.removeAttribute("aria-busy");
}

function failure(error: unknown, again: () => void): HTMLElement {
  const text = error instanceof Error ? error.message : String(error);
  const missing = error instanceof ApiError && error.status === 404;
  return h(
    "section",
    { class: "failure", role: "alert" },
    h("h1", {}, missing ? "Not found" : "This did not work"),
    h("p", {}, text),
    button("Try again", again),
  );
}

store.onChange((state, before) => {
  if (state.protein !== before.protein) void show(state);
});
void show(store.state);
