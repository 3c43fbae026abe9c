// What the parts of the page share.
import type { Api } from "./api.ts";
import type { Store } from "./state.ts";

export interface Context {
  readonly api: Api;
  readonly store: Store;
  /** Aborts when the page that got it is left: pass it to requests and listeners. */
  readonly signal: AbortSignal;
}
