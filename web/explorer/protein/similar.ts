// The panel of similar proteins of the atlas: searched when asked for, by structure, sequence or embedding.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { ABSENT, decimals } from "../format.ts";
import { type Column, link, plddtCell, section, table } from "./elements.ts";
import { movedBack, type Overlays } from "./overlay.ts";
import { counted, percent, shown } from "./text.ts";
import type { Protein } from "./types.ts";

const KINDS = { structure: "Structure", sequence: "Sequence", embedding: "Embedding" } as const;
type Kind = keyof typeof KINDS;
const HITS = 50;
const WAIT = 400; // milliseconds between looks at a search

interface Hit {
  structure_id: string;
  id: string;
  length: number;
  mean_plddt: number | null;
  identity: number | null;
  coverage: number | null;
  evalue: number | null;
  tm_query: number | null;
  tm_target: number | null;
  rmsd: number | null;
  aligned_length: number | null;
  rotation: number[][] | null;
  translation: number[] | null;
  similarity: number | null;
}

interface Job {
  id: string;
  state: "waiting" | "running" | "done" | "failed" | "cancelled";
  phase: string | null;
  fraction: number;
  detail: string | null;
  searched: number | null;
  num_hits: number | null;
  hits: Hit[];
}

export function similarPanel(protein: Protein, overlays: Overlays, context: Context): HTMLElement {
  const results = h("div", { "aria-live": "polite" });
  const buttons = (Object.keys(KINDS) as Kind[]).map((kind) => {
    const pressed = button(`By ${KINDS[kind].toLowerCase()}`, () => {
      for (const each of buttons) each.disabled = true;
      run(kind, protein, overlays, results, context)
        .catch((error: Error) => {
          if (!context.signal.aborted) results.replaceChildren(h("p", { role: "alert" }, error.message));
        })
        .finally(() => {
          for (const each of buttons) each.disabled = false;
        });
    });
    return pressed;
  });
  return section(
    "Similar proteins in this atlas",
    "p-similar",
    h("div", { class: "p-buttons" }, "Search ", ...buttons),
    results,
  );
}

async function run(
  kind: Kind,
  protein: Protein,
  overlays: Overlays,
  box: HTMLElement,
  context: Context,
): Promise<void> {
  const { api, signal } = context;
  const query = {
    structure: { name: protein.structure_id, min_tm: 0.4 },
    sequence: { sequence: protein.sequence },
    embedding: { name: protein.structure_id },
  }[kind];
  const progress = h("progress", { max: 1, "aria-label": "Progress of the search" });
  box.replaceChildren(progress);
  let job = await api.json<Job>("v1/searches", { body: { kind, limit: HITS, ...query }, signal });
  while (job.state === "waiting" || job.state === "running") {
    progress.value = job.fraction;
    await new Promise((resolve) => setTimeout(resolve, WAIT));
    signal.throwIfAborted();
    job = await api.json<Job>(`v1/searches/${job.id}`, { query: { size: HITS }, signal });
  }
  if (job.state !== "done") throw new Error(`The search ${job.state}: ${job.detail ?? "no reason is known"}`);
  const others = job.hits.filter((hit) => hit.structure_id !== protein.structure_id);
  const searched = job.searched === null ? "" : ` among ${counted(job.searched, "structure")}`;
  box.replaceChildren(
    h(
      "p",
      { class: "p-quiet" },
      `${counted(others.length, "similar protein")} by ${KINDS[kind].toLowerCase()}${searched}, the best first.`,
    ),
    ...(others.length ? [table(`Similar proteins by ${kind}`, columns(kind, overlays, context), others)] : []),
  );
}

function columns(kind: Kind, overlays: Overlays, context: Context): Column<Hit>[] {
  const scores: Record<Kind, Column<Hit>[]> = {
    structure: [
      { name: "TM-score", isNumber: true, cell: (hit) => decimals(hit.tm_query, 3) },
      { name: "by its length", isNumber: true, cell: (hit) => decimals(hit.tm_target, 3) },
      { name: "RMSD, Å", isNumber: true, cell: (hit) => decimals(hit.rmsd, 2) },
      { name: "Aligned", isNumber: true, cell: (hit) => hit.aligned_length ?? ABSENT },
      { name: "Identity", isNumber: true, cell: (hit) => percent(hit.identity) },
      { name: "In 3D", cell: (hit) => superposeButton(hit, overlays, context) },
    ],
    sequence: [
      { name: "Identity", isNumber: true, cell: (hit) => percent(hit.identity) },
      { name: "Coverage", isNumber: true, cell: (hit) => percent(hit.coverage) },
      { name: "E-value", isNumber: true, cell: (hit) => hit.evalue?.toExponential(1) ?? ABSENT },
    ],
    embedding: [{ name: "Cosine", isNumber: true, cell: (hit) => decimals(hit.similarity, 3) }],
  };
  return [
    { name: "Protein", cell: (hit) => link(context, hit.structure_id, shown(hit.id, 60)) },
    { name: "Length", isNumber: true, cell: (hit) => hit.length },
    { name: "pLDDT", isNumber: true, cell: (hit) => plddtCell(hit.mean_plddt) },
    ...scores[kind],
  ];
}

function superposeButton(hit: Hit, overlays: Overlays, { api, signal }: Context): HTMLElement | string {
  const { rotation, translation } = hit;
  if (!rotation || !translation) return ABSENT;
  const pressed = button("Superpose", () => {
    pressed.disabled = true;
    api
      .text(`v1/structures/${hit.structure_id}`, { query: { format: "pdb" }, signal })
      .then((text) =>
        overlays.reveal({
          name: hit.id,
          note: `TM-score ${decimals(hit.tm_query, 2)}, RMSD ${decimals(hit.rmsd, 1)} Å`,
          text: movedBack(text, rotation, translation),
          isTrace: false,
        }),
      )
      .catch((error: Error) => {
        if (!signal.aborted) pressed.after(h("span", { role: "alert" }, ` ${error.message}`));
      })
      .finally(() => {
        pressed.disabled = false;
      });
  });
  return pressed;
}
