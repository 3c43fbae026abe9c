// The head of the page: id, description, scores, and whether the fold is known.
import type { Context } from "../context.ts";
import { copyButton } from "../copy.ts";
import { h } from "../dom.ts";
import { decimals } from "../format.ts";
import { classOf } from "../plddt.ts";
import { cssOf } from "./colours.ts";
import { fileLink } from "./files.ts";
import { counted, fileName, percent, shown } from "./text.ts";
import type { Protein, Verdict } from "./types.ts";

const WORDS: Record<Verdict, string> = {
  known: "Known fold",
  novel: "Novel fold",
  dark: "Dark cluster",
  unclear: "Nothing similar, but unclear",
  not_searched: "Not searched",
};

export function heading(protein: Protein, context: Context): HTMLElement {
  const copy = copyButton("Copy link", () => location.href);
  const kind = classOf(protein.mean_plddt);
  return h(
    "header",
    { class: "p-head" },
    h(
      "p",
      { class: "p-crumbs" },
      h("a", { href: context.store.link({ protein: null }) }, "← Map of the atlas"),
      quickFiles(protein, context, copy),
    ),
    h("h1", {}, shown(protein.id)),
    protein.description ? h("p", { class: "p-description" }, shown(protein.description, 1_000)) : null,
    h(
      "dl",
      { class: "p-tiles" },
      tile("Length", counted(protein.length, "residue")),
      tile(
        "Mean pLDDT",
        protein.mean_plddt === null ? "not stored" : decimals(protein.mean_plddt, 1),
        kind ? kind.name.toLowerCase() : "",
        cssOf(protein.mean_plddt),
      ),
      tile("pTM", protein.ptm === null ? "not stored" : decimals(protein.ptm, 2)),
      tile("Helix, strand", `${percent(protein.helix_fraction)}, ${percent(protein.strand_fraction)}`),
      tile("Radius of gyration", `${decimals(protein.radius_of_gyration, 1)} Å`),
    ),
    h(
      "p",
      { class: "p-verdict" },
      h("strong", { class: `p-badge p-is-${protein.verdict}` }, WORDS[protein.verdict]),
      " ",
      shown(protein.verdict_reason, 1_000),
    ),
  );
}

function quickFiles(protein: Protein, { api }: Context, copy: HTMLElement): HTMLElement {
  const name = fileName(protein.id, protein.structure_id);
  const problem = h("span", { role: "alert" });
  const file = (label: string, format: string) =>
    fileLink(api, label, `v1/structures/${protein.structure_id}?format=${format}`, `${name}.${format}`, (text) => {
      problem.textContent = text;
    });
  return h("span", { class: "p-buttons" }, "Download ", file("PDB", "pdb"), file("mmCIF", "cif"), copy, problem);
}

/** Return links to the parts of the page. */
export function contents(parts: readonly HTMLElement[]): HTMLElement {
  const items = parts.flatMap((part) => {
    const title = part.querySelector("h2");
    if (!title) return [];
    const go = (event: Event) => {
      event.preventDefault(); // the URL is the state of the page, and has no place in it
      title.tabIndex = -1;
      title.focus({ preventScroll: true });
      part.scrollIntoView();
    };
    return [
      h(
        "li",
        {},
        h("a", { href: `${location.pathname}${location.search}#${title.id}`, onclick: go }, title.textContent),
      ),
    ];
  });
  return h("nav", { class: "p-contents", "aria-label": "Parts of this page" }, h("ul", {}, ...items));
}

function tile(name: string, value: string, note = "", css = ""): HTMLElement {
  return h(
    "div",
    {},
    h("dt", {}, name),
    h(
      "dd",
      {},
      css ? h("span", { class: `p-swatch p-${css}`, "aria-hidden": "true" }) : null,
      value,
      note ? h("span", { class: "p-quiet" }, ` ${note}`) : null,
    ),
  );
}
