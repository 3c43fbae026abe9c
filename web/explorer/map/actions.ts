// What a user takes away: files of the proteins that match, figures, a link.
import type { Context } from "../context.ts";
import { copyButton, save } from "../copy.ts";
import { button, h } from "../dom.ts";
import { count } from "../format.ts";

const MOST = 100_000; // proteins of a download, by the server's limit

interface Kind {
  readonly label: string;
  readonly path: string;
  readonly file: string;
  readonly query: Readonly<Record<string, string>>;
}

const KINDS: readonly Kind[] = [
  {
    label: "Structures (PDB, tar)",
    path: "v1/downloads/structures.tar",
    file: "structures.tar",
    query: { format: "pdb" },
  },
  {
    label: "Structures (mmCIF, tar)",
    path: "v1/downloads/structures.tar",
    file: "structures.tar",
    query: { format: "cif" },
  },
  { label: "Sequences (FASTA)", path: "v1/downloads/proteins.fasta", file: "proteins.fasta", query: {} },
  {
    label: "Table with sequences (Parquet)",
    path: "v1/downloads/proteins.parquet",
    file: "proteins.parquet",
    query: {},
  },
];

/** Return a menu that opens below its button, and closes when something else is used. */
export function menu(label: string, ...items: (HTMLElement | null)[]): HTMLDetailsElement {
  const made = h(
    "details",
    { class: "menu-box" },
    h("summary", {}, label),
    h("div", { class: "menu-items" }, ...items),
  );
  made.addEventListener("focusout", (event) => {
    if (event.relatedTarget instanceof Node && !made.contains(event.relatedTarget)) made.open = false;
  });
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !made.open) return;
    made.open = false;
    made.querySelector("summary")?.focus();
  });
  return made;
}

export class Downloads {
  readonly element: HTMLDetailsElement;
  private readonly context: Context;
  private readonly note = h("p", { class: "quiet" });
  private readonly problem = h("p", { class: "error", role: "alert", hidden: true });

  constructor(context: Context) {
    this.context = context;
    this.element = menu(
      "Download",
      this.note,
      ...KINDS.map((kind) => button(kind.label, () => this.run(() => this.download(kind)))),
      button("List of ids (text)", () => this.run(() => this.ids())),
      this.problem,
    );
  }

  update(matching: number): void {
    this.note.textContent =
      matching > MOST
        ? `The first ${count(MOST)} of ${count(matching)} proteins that match: a download has no more.`
        : `${count(matching)} proteins that match`;
  }

  private run(work: () => Promise<void>): void {
    this.problem.hidden = true;
    work().catch((error: unknown) => {
      this.problem.hidden = false;
      this.problem.textContent = error instanceof Error ? error.message : String(error);
    });
  }

  private query(kind: Pick<Kind, "query">): Record<string, string | readonly string[]> {
    return { ...kind.query, limit: String(MOST), ...this.context.store.state.filter };
  }

  private async download(kind: Kind): Promise<void> {
    const { api } = this.context;
    if (api.needsToken) {
      const response = await api.fetch(kind.path, { query: this.query(kind) });
      save(await response.blob(), kind.file);
      return;
    }
    const link = h("a", { href: api.url(kind.path, this.query(kind)), download: kind.file });
    document.body.append(link);
    link.click();
    link.remove();
  }

  private async ids(): Promise<void> {
    const text = await this.context.api.text("v1/downloads/manifest.jsonl", { query: this.query({ query: {} }) });
    const ids = text
      .split("\n")
      .filter(Boolean)
      .map((line) => (JSON.parse(line) as { id: string }).id);
    save(new Blob([`${ids.join("\n")}\n`], { type: "text/plain" }), "ids.txt");
  }
}

/** Return the button that copies the address of what is shown. */
export function linkButton(): HTMLButtonElement {
  return copyButton("Copy link", () => location.href);
}
