// Colours of pLDDT: those of the AlphaFold Database, and others that people with any colour vision tell apart.

import { classOf, PLDDT_CLASSES } from "../plddt.ts";

export const PALETTES = {
  alphafold: { name: "pLDDT, as AlphaFold DB", colours: PLDDT_CLASSES.map(({ color }) => color) },
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

export function colourOf(plddt: number | null | undefined, palette: PaletteName): string {
  const found = classOf(plddt);
  return found ? PALETTES[palette].colours[PLDDT_CLASSES.indexOf(found)]! : NO_PLDDT;
}

/** Return the name of the class in CSS, for backgrounds of residues. */
export function cssOf(plddt: number | null | undefined): string {
  return classOf(plddt)?.css ?? "none";
}
