// The router: which page the URL means, and what is around every page.
import { Api, ApiError } from "./api.ts";
import type { Context } from "./context.ts";
import { button, h } from "./dom.ts";
import { helpButton } from "./help.ts";
import { renderMap } from "./map/page.ts";
import { searchBox } from "./search/box.ts";
import { renderSearch } from "./search/page.ts";
import { type State, Store } from "./state.ts";
import { themeButton } from "./theme.ts";
import { askToken } from "./token.ts";

const api = new Api();
api.askToken = askToken;
const store = new Store();
const main = h("main", { id: "main", tabindex: -1 });

/** What of a state has a page of its own. */
function pageOf(state: State): string {
  if (state.protein !== null) return `protein ${state.protein}`;
  return state.view.search ? `search ${state.view.search}` : "map";
}

let leaving = new AbortController();

async function show(state: State): Promise<void> {
  leaving.abort();
  leaving = new AbortController();
  const context: Context = { api, store, signal: leaving.signal };
  const root = h(
    "div",
    { class: "page", "aria-busy": "true" },
    h("p", { class: "waiting" }, h("span", { class: "spinner" }), " Loading…"),
  );
  main.replaceChildren(root);
  document.title = titleOf(state);
  try {
    if (state.protein !== null) {
      const { renderProtein } = await import("./protein/protein.ts");
      if (context.signal.aborted) return;
      root.replaceChildren();
      await renderProtein(root, state.protein, context);
    } else if (state.view.search) await renderSearch(root, state.view.search, context);
    else await renderMap(root, context);
  } catch (error) {
    if (context.signal.aborted) return;
    root.replaceChildren(failure(error));
  }
  root.removeAttribute("aria-busy");
}

function titleOf(state: State): string {
  if (state.protein !== null) return `${state.protein} – FoldAtlas`;
  return state.view.search ? "Search – FoldAtlas" : "FoldAtlas explorer";
}

function failure(error: unknown): HTMLElement {
  const missing = error instanceof ApiError && error.status === 404;
  return h(
    "section",
    { class: "failure", role: "alert" },
    h("h1", {}, missing ? "Not found" : "This did not work"),
    h("p", {}, error instanceof Error ? error.message : String(error)),
    h(
      "p",
      { class: "row" },
      button("Try again", () => void show(store.state)),
      h("a", { href: store.base }, "Go to the map"),
    ),
  );
}

/** Follow links inside the page without loading it again. */
function follow(event: MouseEvent): void {
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.target || link.hasAttribute("download") || !store.holds(link.href)) return;
  event.preventDefault();
  store.open(link.href);
}

function start(): void {
  const home = h("a", { class: "brand", href: store.base }, "FoldAtlas");
  const search = searchBox({ api, store, signal: new AbortController().signal });
  const top = h("header", { class: "top" }, home, search, h("div", { class: "top-end" }, themeButton(), helpButton()));
  document.getElementById("page")?.append(top, main);
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault(); // with <base>, "#main" is another page
    main.focus();
  });
  document.addEventListener("click", follow);
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, textarea, select");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    search.querySelector("input")?.focus();
  });
  store.onChange((state, before) => {
    if (pageOf(state) === pageOf(before)) return;
    void show(state);
    scrollTo(0, 0);
  });
  void show(store.state);
}

start();
