// The state of the page is its URL, and nothing else: a link shows what its sender saw, and the browser's back button
// undoes. `/` is the map, `/protein/NAME` a protein. Parameters of the query that VIEW does not list are conditions of
// the filter, with the names that `GET /v1/proteins` has for them, and are passed on to the server as they are.

/** Parameters of how things are shown; all others are of the filter. */
export const VIEW = ["map", "color", "view", "charts", "sort", "order", "after"] as const;
export type ViewName = (typeof VIEW)[number];

export interface State {
  /** Name of the protein whose page is shown; null on the map page. */
  readonly protein: string | null;
  readonly view: Readonly<Partial<Record<ViewName, string>>>;
  /** Conditions of the filter: parameter of the server -> value. */
  readonly filter: Readonly<Record<string, string>>;
}

const IS_VIEW: ReadonlySet<string> = new Set(VIEW);
const PROTEIN = "protein/";

/** Return the state that a URL has, under the path `base` ("/", or that of a prefix). */
export function parseState(url: URL, base = "/"): State {
  const path = url.pathname.startsWith(base) ? url.pathname.slice(base.length) : "";
  const view: Partial<Record<ViewName, string>> = {};
  const filter: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    if (value === "") continue;
    if (IS_VIEW.has(name)) view[name as ViewName] = value;
    else filter[name] = value;
  }
  return { protein: path.startsWith(PROTEIN) ? decode(path.slice(PROTEIN.length)) : null, view, filter };
}

/** Return the path and the query of a state. */
export function formatState(state: State, base = "/"): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state.filter).sort()) query.set(name, value);
  for (const name of VIEW) {
    const value = state.view[name];
    if (value) query.set(name, value);
  }
  const path = state.protein === null ? "" : PROTEIN + encodeURIComponent(state.protein);
  const text = query.toString();
  return base + path + (text ? `?${text}` : "");
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
  filter?: Record<string, string | null>;
  /** Conditions that are not in `filter` are removed. */
  onlyFilter?: boolean;
}

/** Return a state with a change made; null removes a parameter. */
export function changed(state: State, change: Change): State {
  return {
    protein: change.protein === undefined ? state.protein : change.protein,
    view: merged(state.view, change.view ?? {}),
    filter: merged(change.onlyFilter ? {} : state.filter, change.filter ?? {}),
  };
}

function merged(before: Readonly<Record<string, string | undefined>>, change: Record<string, string | null>) {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries({ ...before, ...change })) if (value) result[name] = value;
  return result;
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

  onChange(listener: (state: State, before: State) => void): void {
    this.listeners.push(listener);
  }

  /** Make a change, as a new entry of the browser's history, or in place of the present one. */
  change(change: Change, { replace = false } = {}): void {
    const next = changed(this.now, change);
    const url = formatState(next, this.base);
    if (url === formatState(this.now, this.base)) return;
    if (replace) history.replaceState(null, "", url);
    else history.pushState(null, "", url);
    this.set(next);
  }

  /** Return the URL of the present state with a change made, for links. */
  link(change: Change): string {
    return formatState(changed(this.now, change), this.base);
  }

  private set(next: State): void {
    const before = this.now;
    this.now = next;
    for (const listener of this.listeners) listener(next, before);
  }
}
