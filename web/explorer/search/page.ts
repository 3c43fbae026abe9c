// The page of a search: its progress, then the structures that were found.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { ABSENT, count, decimals, printable } from "../format.ts";
import type { Hit, Job } from "./model.ts";

const FIRST_WAIT = 250; // milliseconds between questions about the progress, growing
const MOST_WAIT = 2000;
const TITLES: Readonly<Record<Job["kind"], string>> = {
  sequence: "Search by sequence",
  structure: "Search by structure",
  embedding: "Similar proteins by embedding",
};

interface Shown {
  readonly label: string;
  readonly title: string;
  readonly kinds?: readonly Job["kind"][];
  readonly text: (hit: Hit) => string;
}

const COLUMNS: readonly Shown[] = [
  { label: "Length", title: "Residues", text: (hit) => count(hit.length) },
  { label: "pLDDT", title: "Mean pLDDT, 0 to 100", text: (hit) => decimals(hit.mean_plddt, 1) },
  { label: "pTM", title: "pTM, 0 to 1", text: (hit) => decimals(hit.ptm, 2) },
  {
    label: "E-value",
    title: "Expected number of such hits by chance",
    kinds: ["sequence"],
    text: (hit) => (hit.evalue === null ? ABSENT : hit.evalue.toExponential(1)),
  },
  {
    label: "TM-score",
    title: "TM-score by the query's length, 0 to 1",
    kinds: ["structure"],
    text: (hit) => decimals(hit.tm_query, 3),
  },
  {
    label: "RMSD",
    title: "Of the aligned C-alphas, angstrom",
    kinds: ["structure"],
    text: (hit) => decimals(hit.rmsd, 1),
  },
  {
    label: "Similarity",
    title: "Cosine of the embeddings",
    kinds: ["embedding"],
    text: (hit) => decimals(hit.similarity, 3),
  },
  {
    label: "Identity",
    title: "Of the aligned residues, 0 to 1",
    kinds: ["sequence", "structure"],
    text: (hit) => decimals(hit.identity, 2),
  },
  {
    label: "Coverage",
    title: "Aligned fraction of the query, 0 to 1",
    kinds: ["sequence", "structure"],
    text: (hit) => decimals(hit.coverage, 2),
  },
];

/** Fill `root` with the page of a search. */
export async function renderSearch(root: HTMLElement, id: string, context: Context): Promise<void> {
  const { api, signal } = context;
  const path = `v1/searches/${encodeURIComponent(id)}`;
  let wait = FIRST_WAIT;
  for (;;) {
    const job = await api.json<Job>(path, { signal });
    if (job.state !== "waiting" && job.state !== "running") {
      root.replaceChildren(...result(job, context, path));
      return;
    }
    root.replaceChildren(...progress(job, context, path));
    await new Promise((done) => setTimeout(done, wait));
    if (signal.aborted) return;
    wait = Math.min(MOST_WAIT, wait * 1.5);
  }
}

function heading(job: Job): HTMLElement {
  return h("h1", {}, TITLES[job.kind]);
}

function exact(job: Job, context: Context): HTMLElement | null {
  if (!job.exact) return null;
  const link = h("a", { href: context.store.link({ protein: job.exact, view: { search: null } }) }, "Open it");
  return h("p", { class: "notice" }, "The atlas has exactly this sequence. ", link);
}

function progress(job: Job, context: Context, path: string): HTMLElement[] {
  const bar = h("progress", { max: 1, value: job.fraction, "aria-label": "Progress of the search" });
  const stop = () => void context.api.json(path, { method: "DELETE" }).catch(() => undefined);
  const text = job.state === "waiting" ? "Waiting for other searches" : `Searching: ${job.phase ?? "starting"}`;
  return [
    heading(job),
    exact(job, context),
    h("p", { role: "status" }, text),
    bar,
    button("Stop the search", stop),
  ].filter((each) => each !== null);
}

function result(job: Job, context: Context, path: string): HTMLElement[] {
  const back = h("p", {}, h("a", { href: context.store.link({ view: { search: null } }) }, "Back to the map"));
  if (job.state === "failed")
    return [heading(job), h("p", { class: "error", role: "alert" }, job.detail ?? "The search failed."), back];
  if (job.state === "cancelled") return [heading(job), h("p", {}, "The search was stopped."), back];
  const size = job.query_length ? ` with ${count(job.query_length)} residues` : "";
  const found = h(
    "p",
    { role: "status" },
    `${count(job.num_hits ?? 0)} of ${count(job.searched ?? 0)} structures are similar to the query${size}.`,
  );
  const columns = COLUMNS.filter((column) => !column.kinds || column.kinds.includes(job.kind));
  const body = h("tbody", {}, ...job.hits.map((hit) => row(hit, columns, context)));
  const head = h(
    "tr",
    {},
    h("th", { scope: "col", class: "number" }, "Rank"),
    h("th", { scope: "col" }, "Protein"),
    ...columns.map((column) => h("th", { scope: "col", class: "number", title: column.title }, column.label)),
    h("th", { scope: "col" }, "Description"),
  );
  const table = h(
    "table",
    {},
    h("caption", { class: "offscreen" }, "Hits, the best first"),
    h("thead", {}, head),
    body,
  );
  const parts = [heading(job), exact(job, context), found, back];
  if (job.hits.length)
    parts.push(h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Hits" }, table));
  if (job.next !== null) parts.push(moreButton(job.next, body, columns, context, path));
  return parts.filter((each) => each !== null);
}

function moreButton(
  after: number,
  body: HTMLElement,
  columns: readonly Shown[],
  context: Context,
  path: string,
): HTMLElement {
  let next: number | null = after;
  const made = button("Show more hits", () => void more().catch(() => undefined));
  async function more(): Promise<void> {
    const job = await context.api.json<Job>(path, { query: { after: next }, signal: context.signal });
    body.append(...job.hits.map((hit) => row(hit, columns, context)));
    next = job.next;
    if (next === null) made.remove();
  }
  return made;
}

function row(hit: Hit, columns: readonly Shown[], { store }: Context): HTMLElement {
  const link = h(
    "a",
    { href: store.link({ protein: hit.structure_id, view: { search: null } }) },
    h("bdi", {}, printable(hit.id)),
  );
  return h(
    "tr",
    {},
    h("td", { class: "number" }, hit.rank),
    h("th", { scope: "row" }, link),
    ...columns.map((column) => h("td", { class: "number" }, column.text(hit))),
    h("td", { class: "text" }, h("bdi", {}, printable(hit.description ?? ""))),
  );
}
