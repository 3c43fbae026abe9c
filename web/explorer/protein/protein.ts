// The page of one protein: what the atlas has on a structure, in 3D, as a matrix, as a sequence and as tables.
import { ApiError } from "../api.ts";
import type { Context } from "../context.ts";
import { h } from "../dom.ts";
import { citation, downloads } from "./downloads.ts";
import { fact, link, section } from "./elements.ts";
import { errorPanel } from "./errors.ts";
import { Focus } from "./focus.ts";
import { contents, heading } from "./heading.ts";
import { knownPanel, loadKnown } from "./known.ts";
import { Overlays } from "./overlay.ts";
import { sequencePanel } from "./residues.ts";
import { similarPanel } from "./similar.ts";
import { structurePanel } from "./structure.ts";
import { annotations, clusters, hits, neighbours, origin, records } from "./tables.ts";
import { counted, shown } from "./text.ts";
import type { Protein, Row } from "./types.ts";

/** Fill `root` with the page of the protein `name` (an id, source:id or structure_id). */
export async function renderProtein(root: HTMLElement, name: string, context: Context): Promise<void> {
  let protein: Protein;
  try {
    protein = await context.api.json<Protein>(`v1/explore/proteins/${encodeURIComponent(name)}`, {
      signal: context.signal,
    });
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 409) throw error;
    root.append(await choice(name, context));
    return;
  }
  document.title = `${shown(protein.id, 80)} · FoldAtlas`;
  const focus = new Focus(protein.length);
  const overlays = new Overlays();
  const known = loadKnown(protein, context);
  const residues = sequencePanel(protein, focus);
  root.classList.add("p-page");
  const parts = [
    [structurePanel(protein, focus, overlays, context), errorPanel(protein, focus, context)],
    [residues.section],
    [knownPanel(protein, known, overlays)],
    [hits(protein)],
    [similarPanel(protein, overlays, context)],
    [clusters(protein, context), neighbours(protein, context)],
    [records(protein), origin(protein)],
    [annotations(protein)],
    [downloads(protein, context), citation(protein)],
  ].map((row) => row.filter((part) => part !== null));
  root.append(
    heading(protein, context),
    contents(parts.flat()),
    ...parts.flatMap((row, n) => (row.length > 1 ? [h("div", { class: n ? "p-pair" : "p-main" }, ...row)] : row)),
  );
  known.then((found) => residues.plot.addKnown(found)).catch(() => undefined); // the panel says why
}

/** Return a list of the structures that an ambiguous name means. */
async function choice(name: string, context: Context): Promise<HTMLElement> {
  const { items } = await context.api.json<{ items: (Row & { source: string })[] }>(
    `v1/proteins/${encodeURIComponent(name)}`,
    { signal: context.signal },
  );
  const different = [...new Map(items.map((row) => [row.structure_id, row])).values()];
  return section(
    `${shown(name)} means ${counted(different.length, "structure")}`,
    "p-choice",
    h(
      "ul",
      {},
      ...different.map((row) =>
        h(
          "li",
          {},
          link(context, row.structure_id, `${shown(row.id)}, ${counted(row.length, "residue")}`),
          " ",
          fact("from", shown(row.source)),
        ),
      ),
    ),
  );
}
