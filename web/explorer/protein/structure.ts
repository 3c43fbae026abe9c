// The panel of the structure in 3D: view, legend, and how it is shown.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { classText, PLDDT_CLASSES } from "../plddt.ts";
import { KNOWN, NO_PLDDT, PALETTES, SPECTRUM } from "./colours.ts";
import { section } from "./elements.ts";
import { saveData, saveText } from "./files.ts";
import { countSelected, type Focus } from "./focus.ts";
import type { Overlays } from "./overlay.ts";
import { counted, fileName, shown } from "./text.ts";
import type { Protein } from "./types.ts";
import { type Colouring, STYLES, StructureView, type StyleName } from "./viewer.ts";

const MOST_IN_PDB = 9_999; // residues, by the format

export function structurePanel(protein: Protein, focus: Focus, overlays: Overlays, context: Context): HTMLElement {
  const box = h("div", {
    class: "p-view",
    role: "application",
    tabindex: 0,
    "aria-label": `Structure of ${shown(protein.id, 80)} in 3D, coloured by pLDDT. Arrow keys turn it, + and - zoom.`,
  });
  const tools = h("div", { class: "p-tools" });
  const legend = h("ul", { class: "p-legend", "aria-label": "Colours" });
  const status = h("p", { class: "p-status", role: "status" }, "The structure is loading …");
  const panel = section("Structure", "p-structure", h("div", { class: "p-stage" }, box, status));
  open(protein, focus, context, box)
    .then((view) => {
      status.remove();
      panel.append(view.readout, selectionTools(focus, view), legend, tools);
      fill(tools, legend, view, protein);
      addOverlay(tools, legend, view, overlays);
    })
    .catch((error: Error) => {
      if (context.signal.aborted) return;
      status.textContent = `There is no 3D view: ${error.message} The other parts of the page work without it.`;
      box.classList.add("p-none");
    });
  return panel;
}

async function open(
  protein: Protein,
  focus: Focus,
  { api, signal }: Context,
  box: HTMLElement,
): Promise<StructureView> {
  const format = protein.length > MOST_IN_PDB ? "cif" : "pdb";
  const text = await api.text(`v1/structures/${protein.structure_id}`, { query: { format }, signal });
  return StructureView.open(box, { text, format }, protein, focus, signal);
}

function fill(tools: HTMLElement, legend: HTMLElement, view: StructureView, protein: Protein): void {
  const hasPlddt = protein.plddt.some((value) => value !== null);
  const colours = {
    ...Object.fromEntries(Object.entries(PALETTES).map(([key, { name }]) => [key, name])),
    chain: "First to last residue",
  };
  const setColours = (key: Colouring) => {
    view.setColouring(key);
    drawLegend(legend, key, protein);
    document.documentElement.dataset["plddt"] = key === "safe" ? "safe" : "alphafold";
  };
  tools.append(
    choice("Colours", colours, (key) => setColours(key as Colouring)),
    choice("Style", STYLES, (key) => view.setStyle(key as StyleName)),
    h("div", { class: "p-buttons" }, ...view.tools()),
    h(
      "div",
      { class: "p-buttons" },
      button("Full screen", () => void view.box.parentElement?.requestFullscreen?.().catch(() => undefined)),
      button("PNG", () => saveData(view.png(), `${fileName(protein.id, protein.structure_id)}.png`), {
        "aria-label": "Save the view as PNG",
      }),
    ),
  );
  setColours(hasPlddt ? "alphafold" : "chain");
  if (!hasPlddt) tools.querySelector("select")!.value = "chain";
}

function choice(label: string, options: Record<string, string>, chosen: (key: string) => void): HTMLElement {
  const select = h(
    "select",
    { onchange: () => chosen(select.value) },
    ...Object.entries(options).map(([value, name]) => h("option", { value }, name)),
  );
  return h("label", {}, `${label} `, select);
}

function drawLegend(legend: HTMLElement, colouring: Colouring, protein: Protein): void {
  const own = legend.querySelectorAll(".p-own");
  for (const item of own) item.remove();
  const items =
    colouring === "chain"
      ? [
          [SPECTRUM[0]!, "first residue"],
          [SPECTRUM[2]!, "middle"],
          [SPECTRUM[4]!, "last residue"],
        ]
      : [
          ...PLDDT_CLASSES.map((each, n) => [PALETTES[colouring].colours[n]!, classText(each)]),
          ...(protein.plddt.includes(null) ? [[NO_PLDDT, "no pLDDT"]] : []),
        ];
  legend.prepend(...items.map(([colour, name]) => entry(colour!, name!, "p-own")));
}

function entry(colour: string, name: string, css = ""): HTMLElement {
  const swatch = h("span", { class: "p-swatch", "aria-hidden": "true" });
  swatch.style.background = colour;
  return h("li", { class: css }, swatch, name);
}

function addOverlay(tools: HTMLElement, legend: HTMLElement, view: StructureView, overlays: Overlays): void {
  const item = entry(KNOWN, "");
  const name = h("span", {});
  item.append(name);
  const show = () => {
    view.showOther(box.checked);
    item.hidden = !box.checked;
  };
  const box = h("input", { type: "checkbox", checked: true, onchange: show });
  const save = button("Save it", () => {
    const { current } = overlays;
    if (current) saveText(current.text, `${fileName(current.name, "structure")}-superposed.pdb`);
  });
  save.title = "Save the superposed structure in the frame of this protein, as PDB";
  const controls = h(
    "span",
    { class: "p-buttons", hidden: true },
    h("label", { class: "p-known" }, box, "Superposed"),
    save,
  );
  tools.prepend(controls);
  legend.append(item);
  item.hidden = true;
  overlays.whenShown((overlay) => {
    view.superpose(overlay);
    name.textContent = `${overlay.isTrace ? "Nearest known structure" : "Superposed"}: ${shown(overlay.name, 60)} (${overlay.note})`;
    controls.hidden = false;
    box.checked = true;
    show();
  });
}

function selectionTools(focus: Focus, view: StructureView): HTMLElement {
  const text = h("span", {});
  const box = h(
    "div",
    { class: "p-selection", hidden: true, role: "status" },
    text,
    button("Zoom to it", () => view.zoomToSelection()),
    button("Clear", () => focus.select(null)),
  );
  focus.whenSelected((selection) => {
    box.hidden = selection === null;
    if (!selection) return;
    const part = ([from, to]: readonly [number, number]) => (from === to ? `${from + 1}` : `${from + 1} to ${to + 1}`);
    const { first, second } = selection;
    text.textContent = second
      ? `Aligned residues ${part(first)} (green), scored residues ${part(second)} (violet)`
      : `Residues ${part(first)} (green): ${counted(countSelected(selection), "residue")}`;
  });
  return box;
}
