// The panel of what is known of each residue: pLDDT as a line, and the sequence.
import { copyButton } from "../copy.ts";
import { button, h } from "../dom.ts";
import { section } from "./elements.ts";
import { saveSvg } from "./files.ts";
import type { Focus } from "./focus.ts";
import { PlddtPlot } from "./plot.ts";
import { SequenceView } from "./sequence.ts";
import { fileName, percent } from "./text.ts";
import type { Protein } from "./types.ts";

export function sequencePanel(protein: Protein, focus: Focus): { section: HTMLElement; plot: PlddtPlot } {
  const plot = new PlddtPlot(protein, focus);
  const sequence = new SequenceView(protein, focus);
  const name = `${fileName(protein.id, protein.structure_id)}-plddt.svg`;
  const copy = copyButton("Copy sequence", () => protein.sequence);
  const copyPart = copyButton("Copy selection", () => {
    const [from, to] = focus.selection?.first ?? [0, -1];
    return protein.sequence.slice(from, to + 1);
  });
  copyPart.hidden = true;
  focus.whenSelected((selection) => {
    copyPart.hidden = selection === null;
  });
  const has = protein.plddt.some((value) => value !== null);
  return {
    plot,
    section: section(
      "Confidence and sequence",
      "p-residues",
      has
        ? h("p", { class: "p-quiet" }, shares(protein))
        : h("p", { class: "p-quiet" }, "No pLDDT is stored of this structure."),
      has ? plot.drawing : null,
      sequence.box,
      h(
        "div",
        { class: "p-under" },
        sequence.readout,
        h(
          "div",
          { class: "p-buttons" },
          copyPart,
          copy,
          has ? button("SVG of the line", () => saveSvg(plot.drawing, name)) : null,
        ),
      ),
      sequence.omitted ? h("p", { class: "p-quiet" }, sequence.omitted) : null,
    ),
  };
}

function shares(protein: Protein): string {
  const {
    fraction_very_high: veryHigh,
    fraction_confident: confident,
    fraction_low: low,
    fraction_very_low: veryLow,
  } = protein;
  if (veryHigh === null || confident === null) return "";
  return `pLDDT above 90: ${percent(veryHigh)} of residues; 70 to 90: ${percent(confident - veryHigh)}; 50 to 70: ${percent(low)}; below 50: ${percent(veryLow)}.`;
}
