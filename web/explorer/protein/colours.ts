// Colours of pLDDT: those of the AlphaFold Database, and others that people with any colour vision tell apart.

export interface PlddtClass {
  readonly name: string;
  readonly range: string;
  /** pLDDT above this belongs to the class, or to one before it. */
  readonly above: number;
  readonly css: string;
}

export const CLASSES: readonly PlddtClass[] = [
  { name: "Very high", range: "above 90", above: 90, css: "very-high" },
  { name: "Confident", range: "70 to 90", above: 70, css: "confident" },
  { name: "Low", range: "50 to 70", above: 50, css: "low" },
  { name: "Very low", range: "50 or below", above: -1, css: "very-low" },
];

export const PALETTES = {
  alphafold: { name: "pLDDT, as AlphaFold DB", colours: ["#0053d6", "#65cbf3", "#ffdb13", "#ff7d45"] },
  // four steps of viridis (van der Walt & Smith 2015), which rise in lightness and can be seen on black and white
  safe: { name: "pLDDT, colour-blind safe", colours: ["#3b528b", "#21918c", "#5ec962", "#fde725"] },
} as const;
export type PaletteName = keyof typeof PALETTES;

/** From the first residue to the last. */
export const SPECTRUM = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];

export const NO_PLDDT = "#888888";
export const KNOWN = "#c2257a"; // the nearest known structure
export const FIRST = "#0b8f55"; // selected residues
export const SECOND = "#8a4be0"; // columns of a selected part of the aligned errors
export const FADED = "#b4bac2"; // residues that are not selected

/** Return the class of a pLDDT, or undefined without one. */
export function classOf(plddt: number | null | undefined): PlddtClass | undefined {
  return plddt === null || plddt === undefined ? undefined : CLASSES.find(({ above }) => plddt > above);
}

export function colourOf(plddt: number | null | undefined, palette: PaletteName): string {
  const found = classOf(plddt);
  return found ? PALETTES[palette].colours[CLASSES.indexOf(found)]! : NO_PLDDT;
}

/** Return the name of the class in CSS, for backgrounds of residues. */
export function cssOf(plddt: number | null | undefined): string {
  return classOf(plddt)?.css ?? "none";
}
