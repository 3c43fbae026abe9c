// The four classes of pLDDT (0 to 100) and their colours, those of the AlphaFold Database.

export interface PlddtClass {
  readonly name: string;
  readonly range: string;
  /** Value of the column `confidence`. */
  readonly value: string;
  /** pLDDT above this belongs to the class, or to one before it. */
  readonly above: number;
  readonly css: string;
  readonly color: string;
}

export const PLDDT_CLASSES: readonly PlddtClass[] = [
  { name: "Very high", range: "above 90", value: "very high", above: 90, css: "very-high", color: "#0053d6" },
  { name: "Confident", range: "70 to 90", value: "confident", above: 70, css: "confident", color: "#65cbf3" },
  { name: "Low", range: "50 to 70", value: "low", above: 50, css: "low", color: "#ffdb13" },
  { name: "Very low", range: "50 or below", value: "very low", above: -Infinity, css: "very-low", color: "#ff7d45" },
];

/** Return the class of a pLDDT, or undefined without one. */
export function classOf(plddt: number | null | undefined): PlddtClass | undefined {
  return plddt === null || plddt === undefined ? undefined : PLDDT_CLASSES.find(({ above }) => plddt > above);
}

/** Return the text of a class in a legend. */
export function classText(each: PlddtClass): string {
  return `${each.name} (${each.range})`;
}
