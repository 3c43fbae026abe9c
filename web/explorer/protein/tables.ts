// Tables of the page of a protein: results of searches, clusters, neighbours, records, annotations, and the origin.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { ABSENT, decimals } from "../format.ts";
import { type Column, link, plddtCell, row, section, table } from "./elements.ts";
import { counted, percent, shown, sourceName } from "./text.ts";
import type { Cluster, Hit, Protein, Row } from "./types.ts";

const LEVELS = { identity90: "90 % identity", identity30: "30 % identity", structure: "Structure" } as const;
const FILTERS = { identity90: "cluster90", identity30: "cluster30", structure: "cluster_structure" } as const;
const MEMBERS = 20; // of a page

export function hits(protein: Protein): HTMLElement {
  if (!protein.hits.length)
    return section(
      "Results of searches",
      "",
      h(
        "p",
        { class: "p-quiet" },
        "The atlas was not searched against known structures or sequences: foldatlas novelty does.",
      ),
    );
  const columns: Column<Hit>[] = [
    { name: "Search", cell: (hit) => (hit.search === "structures" ? "Structure" : "Sequence") },
    { name: "Best hit", isWide: true, cell: result },
    { name: "TM-score", isNumber: true, cell: (hit) => decimals(hit.tm_query, 3) },
    { name: "by its length", isNumber: true, cell: (hit) => decimals(hit.tm_target, 3) },
    { name: "RMSD, Å", isNumber: true, cell: (hit) => decimals(hit.rmsd, 2) },
    { name: "Aligned", isNumber: true, cell: (hit) => hit.aligned_length ?? percent(hit.coverage) },
    { name: "Identity", isNumber: true, cell: (hit) => percent(hit.identity) },
    { name: "E-value", isNumber: true, cell: (hit) => hit.evalue?.toExponential(1) ?? ABSENT },
    {
      name: "Reference",
      cell: (hit) =>
        `${shown(hit.reference)}, version ${hit.version}${hit.is_demonstration ? " (a demonstration)" : ""}`,
    },
    { name: "Searched", cell: (hit) => `${hit.completed.slice(0, 10)}${hit.is_latest ? "" : ", replaced since"}` },
    { name: "Licence", cell: (hit) => shown(hit.licence ?? ABSENT) },
  ];
  const inherits = protein.hits.some(
    (hit) => hit.novelty_source !== null && hit.novelty_source !== protein.structure_id,
  );
  return section(
    "Results of searches",
    "",
    table("Results of searches", columns, protein.hits),
    inherits
      ? h(
          "p",
          { class: "p-quiet" },
          "A hit without RMSD is that of the representative of the cluster at 90 % identity.",
        )
      : null,
  );
}

function result(hit: Hit): string {
  if (hit.state === "searched") return "no hit";
  if (hit.state === "not_searched") return `not searched: ${shown(hit.reason ?? "unknown reason")}`;
  return shown(hit.target) + (hit.title ? `: ${shown(hit.title, 120)}` : "");
}

export function clusters(protein: Protein, context: Context): HTMLElement {
  if (!protein.clusters.length)
    return section(
      "Clusters",
      "",
      h("p", { class: "p-quiet" }, "The structure is in no cluster: foldatlas cluster makes them."),
    );
  return section("Clusters", "", ...protein.clusters.map((cluster) => clusterBlock(cluster, context)));
}

function clusterBlock(cluster: Cluster, context: Context): HTMLElement {
  const representative = cluster.is_representative
    ? "this protein"
    : link(context, cluster.cluster, shown(cluster.id ?? cluster.cluster, 60));
  const members = h("div", {});
  const details = h(
    "details",
    { ontoggle: () => details.open && !members.hasChildNodes() && void listMembers(cluster, members, context) },
    h("summary", {}, "Members"),
    members,
  );
  return h(
    "div",
    { class: "p-cluster" },
    h("h3", {}, LEVELS[cluster.level]),
    h(
      "p",
      {},
      `${counted(cluster.num_structures, "structure")} of ${counted(cluster.num_proteins, "protein")}`,
      cluster.members_mean_plddt === null ? "" : `, mean pLDDT ${decimals(cluster.members_mean_plddt, 1)}`,
      "; representative: ",
      representative,
      ". ",
      h(
        "a",
        {
          href: context.store.link({
            protein: null,
            filter: { [FILTERS[cluster.level]]: [cluster.cluster] },
            onlyFilter: true,
          }),
        },
        "Show all on the map",
      ),
    ),
    cluster.num_structures > 1 ? details : null,
  );
}

interface Member {
  structure_id: string;
  is_representative: boolean;
  identity: number | null;
  tm: number | null;
}

async function listMembers(
  cluster: Cluster,
  box: HTMLElement,
  context: Context,
  after: string | null = null,
): Promise<void> {
  const { api, signal } = context;
  const more = box.querySelector("button");
  if (more) more.disabled = true;
  try {
    const path = `v1/clusters/${cluster.level}/${cluster.cluster}/members`;
    const page = await api.json<{ items: Member[]; next: string | null }>(path, {
      query: { size: MEMBERS, after },
      signal,
    });
    const ids = page.items.map((member) => member.structure_id);
    const { items } = await api.json<{ items: Row[] }>("v1/batch/proteins", { body: { ids }, signal });
    const rows = new Map(items.map((item) => [item.structure_id, item]).reverse() as [string, Row][]);
    const columns: Column<Member>[] = [
      {
        name: "Protein",
        cell: (member) =>
          link(context, member.structure_id, shown(rows.get(member.structure_id)?.id ?? member.structure_id, 60)),
      },
      { name: "Length", isNumber: true, cell: (member) => rows.get(member.structure_id)?.length },
      { name: "pLDDT", isNumber: true, cell: (member) => plddtCell(rows.get(member.structure_id)?.mean_plddt ?? null) },
      cluster.level === "structure"
        ? { name: "TM-score", isNumber: true, cell: (member) => decimals(member.tm, 2) }
        : { name: "Identity", isNumber: true, cell: (member) => percent(member.identity) },
    ];
    const body = box.querySelector("tbody");
    if (body) body.append(...page.items.map((member) => row(columns, member)));
    else box.append(table(`Members of the cluster by ${LEVELS[cluster.level]}`, columns, page.items));
    more?.remove();
    const { next } = page;
    if (next !== null) box.append(button("More members", () => void listMembers(cluster, box, context, next)));
  } catch (error) {
    if (signal.aborted) return;
    box.append(h("p", { role: "alert" }, error instanceof Error ? error.message : String(error)));
    if (more) more.disabled = false;
  }
}

export function neighbours(protein: Protein, context: Context): HTMLElement {
  const near = protein.neighbours;
  if (!near)
    return section(
      "Neighbours on the map",
      "",
      h("p", { class: "p-quiet" }, "The structure is on no map: foldatlas project makes one."),
    );
  const columns: Column<Row>[] = [
    { name: "Protein", cell: (other) => link(context, other.structure_id, shown(other.id, 60)) },
    { name: "Length", isNumber: true, cell: (other) => other.length },
    { name: "pLDDT", isNumber: true, cell: (other) => plddtCell(other.mean_plddt) },
    { name: "pTM", isNumber: true, cell: (other) => decimals(other.ptm, 2) },
    {
      name: "Nearest known",
      cell: (other) =>
        other.nearest_structure === null
          ? ABSENT
          : `${shown(other.nearest_structure, 40)} (${decimals(other.tm_query, 2)})`,
    },
  ];
  return section(
    "Neighbours on the map",
    "",
    h(
      "p",
      { class: "p-quiet" },
      `Nearest first, on the latest map (${shown(near.method)} of ${shown(near.features)}).`,
    ),
    table("Neighbours on the map", columns, near.items),
  );
}

export function records(protein: Protein): HTMLElement {
  const columns: Column<Protein["records"][number]>[] = [
    { name: "Id", cell: (record) => shown(record.id) },
    { name: "Source", cell: (record) => sourceName(record.source) },
    { name: "Description", isWide: true, cell: (record) => shown(record.description) },
  ];
  const more = protein.num_records - protein.records.length;
  return section(
    "Records of this sequence",
    "",
    table("Records of this sequence", columns, protein.records),
    more > 0 ? h("p", { class: "p-quiet" }, `And ${counted(more, "further record")}.`) : null,
    h("p", { class: "p-quiet" }, "structure_id, the md5 of the sequence: ", h("code", {}, protein.structure_id)),
  );
}

export function annotations(protein: Protein): HTMLElement | null {
  if (!protein.annotations.length) return null;
  return section(
    "Annotations",
    "",
    ...protein.annotations.map((one) =>
      h(
        "div",
        {},
        h("h3", {}, shown(one.name)),
        table(
          `Annotation ${shown(one.name)}`,
          [
            { name: "Id", cell: (number: number) => shown(one.ids[number]) },
            ...one.columns.map((name, column) => ({
              name: shown(name),
              cell: (number: number) => shown(one.rows[number]?.[column] ?? ABSENT),
            })),
          ],
          one.rows.map((_, number) => number),
        ),
        one.is_cut ? h("p", { class: "p-quiet" }, `The first ${one.rows.length} rows.`) : null,
      ),
    ),
  );
}

const ORIGIN: Record<string, string> = {
  model: "Model",
  model_version: "Version of the model",
  origin: "From",
  licence: "Licence",
  weights: "Weights (digest)",
  recycles: "Recycles",
  precision: "Precision",
  run_id: "Run",
  device: "Device",
  program: "FoldAtlas",
  started: "Run started",
  source: "Source",
  path: "File",
  chain: "Chain",
  file_sha256: "SHA-256 of the file",
  plddt_source: "pLDDT",
  unobserved: "Residues without atoms",
  breaks: "Chain breaks",
};

export function origin(protein: Protein): HTMLElement {
  const stated = Object.entries(protein.provenance).filter(([name]) => name !== "kind");
  const isImported = protein.provenance["kind"] === "imported";
  const shownValue = (name: string, value: string | number | null) => {
    if (value === null)
      return name === "licence" ? (isImported ? "unknown" : "not stated: ask the authors of the atlas") : ABSENT;
    return name === "source" ? sourceName(String(value)) : shown(String(value));
  };
  return section(
    "Origin",
    "",
    h("p", { class: "p-quiet" }, isImported ? "Imported from a file of structures." : "Predicted by FoldAtlas."),
    h(
      "dl",
      { class: "p-list" },
      ...stated
        .filter(([name, value]) => value !== null || name === "licence" || name === "model")
        .flatMap(([name, value]) => [h("dt", {}, ORIGIN[name] ?? name), h("dd", {}, shownValue(name, value))]),
    ),
  );
}
