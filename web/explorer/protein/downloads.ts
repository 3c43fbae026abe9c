// Files of a protein, and how to cite it.
import type { Context } from "../context.ts";
import { copyButton } from "../copy.ts";
import { button, h } from "../dom.ts";
import { section } from "./elements.ts";
import { fileLink, saveText } from "./files.ts";
import { fileName, shown } from "./text.ts";
import type { Protein } from "./types.ts";

const LINE = 60; // letters of a line of FASTA

export function downloads(protein: Protein, { api }: Context): HTMLElement {
  const name = fileName(protein.id, protein.structure_id);
  const id = protein.structure_id;
  const entry = `AF-${id.replaceAll("-", "")}-F1`;
  const problem = h("p", { role: "alert" });
  const file = (label: string, path: string, ending: string) =>
    h(
      "li",
      {},
      fileLink(api, label, path, `${name}${ending}`, (text) => {
        problem.textContent = text;
      }),
    );
  return section(
    "Downloads",
    "p-downloads",
    h(
      "ul",
      {},
      file("Structure, PDB", `v1/structures/${id}?format=pdb`, ".pdb"),
      file("Structure, mmCIF", `v1/structures/${id}?format=cif`, ".cif"),
      file("pLDDT of each residue, JSON", `v1/confidence/${id}`, "-confidence.json"),
      protein.has_pae
        ? file("Aligned errors, JSON as AlphaFold DB", `files/${entry}-predicted_aligned_error_v1.json`, "-pae.json")
        : null,
      h(
        "li",
        {},
        button("Sequence, FASTA", () => saveText(fasta(protein), `${name}.fasta`), { class: "p-textual" }),
      ),
      file("Everything on this page, JSON", `v1/explore/proteins/${id}`, ".json"),
    ),
    problem,
  );
}

/** Return the sequence as FASTA, with the id and the description as the record has them. */
export function fasta(protein: Pick<Protein, "id" | "description" | "sequence">): string {
  const header = `${protein.id}${protein.description ? ` ${protein.description}` : ""}`.replaceAll(/[\r\n]+/g, " ");
  return `>${header}\n${protein.sequence.replaceAll(new RegExp(`.{1,${LINE}}`, "g"), "$&\n")}`;
}

export function citation(protein: Protein): HTMLElement {
  const { text, bibtex } = protein.citation;
  return section(
    "How to cite",
    "",
    h("p", {}, shown(text, 2_000)),
    h(
      "div",
      { class: "p-buttons" },
      copyButton("Copy text", () => text),
      copyButton("Copy BibTeX", () => bibtex),
    ),
    h(
      "details",
      {},
      h("summary", {}, "BibTeX"),
      h("pre", { tabindex: 0, role: "region", "aria-label": "BibTeX" }, bibtex),
    ),
  );
}
