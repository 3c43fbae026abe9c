// The head of the page: id, description, scores, and whether the fold is known.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { classOf, cssOf } from "./colours.ts";
import { stateLink } from "./elements.ts";
import { copyText } from "./files.ts";
import { counted, decimals, percent, shown } from "./text.ts";
import type { Protein, Verdict } from "./types.ts";

const WORDS: Record<Verdict, string> = {
  known: "Known fold",
  novel: "Novel fold",
  dark: "Dark cluster",
  unclear: "Nothing similar, but unclear",
  not_searched: "Not searched",
};

export function heading(protein: Protein, context: Context): HTMLElement {
  const copy = button("Copy link", () => void copyText(location.href, copy), { "aria-live": "polite" });
  const kind = classOf(protein.mean_plddt);
  return h(
    "header",
    { class: "p-head" },
    h("p", { class: "p-crumbs" }, stateLink(context, { protein: null }, "← Map of the atlas"), copy),
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
