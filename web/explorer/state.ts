// The state of the page is its URL, and nothing else: a link shows what its sender saw, and the browser's back button
// undoes. `/` is the map, `/protein/NAME` a protein, `/?search=ID` the hits of a search. Parameters of the query that VIEW does not list are conditions of
// the filter, with the names that `GET /v1/proteins` has for them, and are passed on to the server as they are.

/** Parameters of how things are shown; all others are of the filter. */
export const VIEW = ["map", "color", "view", "charts", "sort", "order", "after", "search"] as const;
export type ViewName = (typeof VIEW)[number];

export type Filter = Readonly<Record<string, readonly string[]>>;

export interface State {
  /** Name of the protein whose page is shown; null on the map page. */
  readonly protein: string | null;
  readonly view: Readonly<Partial<Record<ViewName, string>>>;
  /** Conditions of the filter: parameter of the server -> its values. */
  readonly filter: Filter;
}

const IS_VIEW: ReadonlySet<string> = new Set(VIEW);
const PROTEIN = "protein/";

/** Return the state that a URL has, under the path `base` ("/", or that of a prefix). */
export function parseState(url: URL, base = "/"): State {
  const path = url.pathname.startsWith(base) ? url.pathname.slice(base.length) : "";
  const view: Partial<Record<ViewName, string>> = {};
  const filter: Record<string, string[]> = {};
  for (const [name, value] of url.searchParams) {
    if (value === "") continue;
    if (IS_VIEW.has(name)) view[name as ViewName] = value;
    else filter[name] = [...(filter[name] ?? []), value];
  }
  return { protein: path.startsWith(PROTEIN) ? decode(path.slice(PROTEIN.length)) : null, view, filter };
}

/** Return the path and the query of a state. */
export function formatState(state: State, base = "/"): string {
  const query = new URLSearchParams(conditions(state.filter));
  for (const name of VIEW) {
    const value = state.view[name];
    if (value) query.set(name, value);
  }
  const path = state.protein === null ? "" : PROTEIN + encodeURIComponent(state.protein);
  const text = query.toString();
  return base + path + (text ? `?${text}` : "");
}

/** Return the conditions of a filter one by one, in the order of their names. */
export function conditions(filter: Filter): [name: string, value: string][] {
  return Object.keys(filter)
    .sort()
    .flatMap((name) => filter[name]!.map((value) => [name, value] as [string, string]));
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray % is part of the name
  }
}

export interface Change {
  protein?: string | null;
  view?: Partial<Record<ViewName, string | null>>;
  filter?: Readonly<Record<string, readonly string[] | null>>;
  /** Conditions that are not in `filter` are removed. */
  onlyFilter?: boolean;
}

/** Return a state with a change made; null and an empty list remove a parameter. */
export function changed(state: State, change: Change): State {
  const view: Partial<Record<ViewName, string>> = {};
  for (const [name, value] of Object.entries({ ...state.view, ...change.view }))
    if (value) view[name as ViewName] = value;
  const filter: Record<string, readonly string[]> = {};
  for (const [name, values] of Object.entries({ ...(change.onlyFilter ? {} : state.filter), ...change.filter }))
    if (values?.length) filter[name] = values;
  return { protein: change.protein === undefined ? state.protein : change.protein, view, filter };
}

/** The state of the page in a browser. Listeners hear of each change, whether ours or of the back button. */
export class Store {
  readonly base: string;
  private listeners: ((state: State, before: State) => void)[] = [];
  private now: State;

  constructor() {
    this.base = new URL(document.baseURI).pathname;
    this.now = parseState(new URL(location.href), this.base);
    addEventListener("popstate", () => this.set(parseState(new URL(location.href), this.base)));
  }

  get state(): State {
    return this.now;
  }

  /** Call `listener` after each change, until the signal aborts. */
  onChange(listener: (state: State, before: State) => void, signal?: AbortSignal): void {
    this.listeners.push(listener);
    signal?.addEventListener("abort", () => {
      this.listeners = this.listeners.filter((each) => each !== listener);
    });
  }

  /** Make a change, as a new entry of the browser's history, or in place of the present one. Return whether it is one. */
  change(change: Change, { replace = false } = {}): boolean {
    const next = changed(this.now, change);
    const url = formatState(next, this.base);
    if (url === formatState(this.now, this.base)) return false;
    if (replace) history.replaceState(null, "", url);
    else history.pushState(null, "", url);
    this.set(next);
    return true;
  }

  /** Return the URL of the present state with a change made, for links. */
  link(change: Change): string {
    return formatState(changed(this.now, change), this.base);
  }

  /** Return whether a URL is of this page, so that `open` can show it. */
  holds(url: string): boolean {
    const { origin, pathname } = new URL(url);
    const path = pathname.slice(this.base.length);
    return origin === location.origin && pathname.startsWith(this.base) && (path === "" || path.startsWith(PROTEIN));
  }

  /** Show the state of a URL of this page. */
  open(url: string): void {
    if (url === location.href) return;
    history.pushState(null, "", url);
    this.set(parseState(new URL(url), this.base));
  }

  private set(next: State): void {
    const before = this.now;
    this.now = next;
    for (const listener of this.listeners) listener(next, before);
  }
}
