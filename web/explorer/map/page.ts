// The page of the whole atlas.
import type { Context } from "../context.ts";
import { h } from "../dom.ts";

/** Fill `root` with the map page. */
export async function renderMap(root: HTMLElement, context: Context): Promise<void> {
  const health = await context.api.json<{ proteins: number }>("healthz", { signal: context.signal });
  root.append(h("h1", {}, "Protein structure atlas"), h("p", {}, `${health.proteins} proteins`));
}
