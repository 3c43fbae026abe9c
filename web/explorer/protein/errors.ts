// The panel of predicted aligned errors.
import { ApiError } from "../api.ts";
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { section } from "./elements.ts";
import { saveSvg } from "./files.ts";
import type { Focus } from "./focus.ts";
import { ErrorMap, errorScale, parseErrors } from "./pae.ts";
import { fileName } from "./text.ts";
import type { Protein } from "./types.ts";

export function errorPanel(protein: Protein, focus: Focus, context: Context): HTMLElement {
  const content = h("div", {});
  const panel = section("Predicted aligned error", "p-errors", content);
  if (!protein.has_pae) {
    content.append(
      h(
        "p",
        { class: "p-quiet" },
        "The atlas has no aligned errors of this structure: foldatlas fold --pae stores them.",
      ),
    );
    return panel;
  }
  content.append(h("p", { class: "p-status", role: "status" }, "The errors are loading …"));
  load(protein, context)
    .then((bytes) => {
      const errors = parseErrors(bytes);
      const map = new ErrorMap(errors, protein.sequence, focus);
      const name = `${fileName(protein.id, protein.structure_id)}-pae.svg`;
      content.replaceChildren(
        map.drawing,
        h(
          "div",
          { class: "p-under" },
          errorScale(),
          button("SVG", () => saveSvg(map.drawing, name), { "aria-label": "Save the heat map as SVG" }),
        ),
        map.readout,
        h(
          "p",
          { class: "p-quiet p-help" },
          "Error of a residue's position if the structure is aligned on another residue. Small errors between two domains mean " +
            "that their arrangement can be trusted. Drag over a part to see its residues in the structure and the sequence.",
          errors.block > 1 ? ` Each cell is the mean of ${errors.block} x ${errors.block} pairs.` : "",
        ),
      );
    })
    .catch((error: Error) => {
      if (context.signal.aborted) return;
      const isAbsent = error instanceof ApiError && error.status === 404;
      content.replaceChildren(
        h(
          "p",
          { class: "p-status", role: "status" },
          isAbsent ? "The atlas has no aligned errors of this structure." : error.message,
        ),
      );
    });
  return panel;
}

function load(protein: Protein, { api, signal }: Context): Promise<ArrayBuffer> {
  return api.bytes(`v1/pae/${protein.structure_id}`, { signal });
}
