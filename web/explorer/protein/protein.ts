// The page of one protein.
import type { Context } from "../context.ts";
import { h } from "../dom.ts";

/** Fill `root` with the page of the protein `name` (an id, source:id or structure_id). */
export async function renderProtein(root: HTMLElement, name: string, context: Context): Promise<void> {
  const found = await context.api.json<{ proteins?: unknown[] }>(`v1/proteins/${encodeURIComponent(name)}`, {
    signal: context.signal,
  });
  root.append(h("h1", {}, name), h("pre", {}, JSON.stringify(found, null, 1)));
}
