// The panel of the nearest known structure: how well it agrees, and the alignment.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { decimals } from "../format.ts";
import { alignmentText } from "./alignment.ts";
import { fact, section } from "./elements.ts";
import { type Overlays, traceText } from "./overlay.ts";
import { counted, percent, shown } from "./text.ts";
import type { Protein, Superposed } from "./types.ts";

/** Return the nearest known structure, superposed. Rejects where there is none. */
export function loadKnown(protein: Protein, { api, signal }: Context): Promise<Superposed> {
  const loading =
    protein.nearest_structure === null
      ? Promise.reject(new Error("There is no known structure to superpose."))
      : api.json<Superposed>(`v1/superposed/${protein.structure_id}`, { signal });
  loading.catch(() => undefined); // each part of the page handles it by itself
  return loading;
}

export function knownPanel(protein: Protein, known: Promise<Superposed>, overlays: Overlays): HTMLElement {
  const content = h("div", {});
  const panel = section("Nearest known structure", "p-nearest", content);
  if (protein.nearest_structure === null) {
    content.append(h("p", {}, shown(protein.verdict_reason, 1_000)));
    return panel;
  }
  content.append(h("p", {}, h("strong", { class: "p-id" }, shown(protein.nearest_structure))));
  known
    .then((found) => {
      const overlay = {
        name: found.target,
        note: `TM-score ${decimals(found.tm_query, 2)}, RMSD ${decimals(found.rmsd, 1)} Å`,
        text: traceText(found),
        isTrace: true,
      };
      const again = button("Superpose it again", () => overlays.reveal(overlay));
      overlays.whenShown((shown) => {
        again.hidden = shown === overlay;
      });
      content.replaceChildren(...described(protein, found), again);
      overlays.show(overlay);
    })
    .catch((error: Error) => content.append(h("p", { class: "p-quiet" }, `It is not superposed: ${error.message}`)));
  return panel;
}

function described(protein: Protein, known: Superposed): HTMLElement[] {
  const inherited = known.placed_by === "representative";
  return [
    h("p", {}, h("strong", { class: "p-id" }, shown(known.target)), known.title ? ` ${shown(known.title)}` : ""),
    h(
      "p",
      { class: "p-facts" },
      fact("TM-score by this protein's length", decimals(known.tm_query, 3)),
      fact("by the known structure's", decimals(known.tm_target, 3)),
      known.tm_confident === null ? null : fact("of confident residues alone", decimals(known.tm_confident, 3)),
      fact("Superposed", `${counted(known.aligned_length, "residue")} of ${protein.length}`),
      fact("RMSD", `${decimals(known.rmsd, 2)} Å`),
      fact("Identical of these", percent(known.identity)),
      fact("Its length", counted(known.length, "residue")),
      fact(
        "Reference",
        `${shown(known.reference)}, version ${known.version}${known.is_demonstration ? " (a demonstration)" : ""}`,
      ),
      fact("Licence", shown(known.licence)),
    ),
    inherited
      ? h(
          "p",
          { class: "p-quiet" },
          "The search compared the representative of this protein's cluster at 90 % identity, and the TM-scores are of that. " +
            "RMSD and identity are of this protein, superposed by the representative's alignment.",
        )
      : h("p", { class: "p-quiet" }, "A TM-score of 0.5 or more mostly means the same fold."),
    h(
      "details",
      {},
      h("summary", {}, "Alignment"),
      h(
        "pre",
        { tabindex: 0, role: "region", "aria-label": "Alignment with the nearest known structure" },
        alignmentText(protein.sequence, known),
      ),
    ),
  ];
}
