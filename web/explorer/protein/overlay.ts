// The structure that is superposed on the protein: one at a time, the nearest known one to begin with.
import { residueCode } from "./text.ts";
import type { Superposed } from "./types.ts";

export interface Overlay {
  readonly name: string;
  /** Its scores, for the legend. */
  readonly note: string;
  /** PDB, in the frame of the protein. */
  readonly text: string;
  readonly isTrace: boolean;
}

export class Overlays {
  private shown: Overlay | null = null;
  private readonly listeners: ((overlay: Overlay) => void)[] = [];

  get current(): Overlay | null {
    return this.shown;
  }

  /** Call `listener` with the structure that is superposed now, if any, and with each later one. */
  whenShown(listener: (overlay: Overlay) => void): void {
    this.listeners.push(listener);
    if (this.shown) listener(this.shown);
  }

  show(overlay: Overlay): void {
    this.shown = overlay;
    for (const listener of this.listeners) listener(overlay);
  }

  /** Show a structure for which the user asked elsewhere on the page, and scroll to where it is. */
  reveal(overlay: Overlay): void {
    this.show(overlay);
    document.querySelector(".p-structure")?.scrollIntoView();
  }
}

/** Return the nearest known structure as PDB: its C-alphas in the frame of the protein, as chain B. */
export function traceText({ c_alphas, sequence }: Pick<Superposed, "c_alphas" | "sequence">): string {
  const lines: string[] = [];
  c_alphas.forEach((point, residue) => {
    if (point === null) return;
    const place = point.map((value) => value.toFixed(3).padStart(8)).join("");
    const number = String((residue % 9_999) + 1).padStart(4);
    const serial = String((lines.length % 99_999) + 1).padStart(5);
    lines.push(
      `ATOM  ${serial}  CA  ${residueCode(sequence[residue] ?? "X")} B${number}    ${place}  1.00  0.00           C  `,
    );
  });
  return [...lines, "TER", "END", ""].join("\n");
}

/** Return PDB text whose atoms x are moved to R^T (x - t): into the frame of which R and t lead to that of the text. */
export function movedBack(
  text: string,
  rotation: readonly (readonly number[])[],
  translation: readonly number[],
): string {
  return text
    .split("\n")
    .map((line) => {
      if (!/^(ATOM {2}|HETATM)/.test(line)) return line;
      const from = [0, 1, 2].map((axis) => Number(line.slice(30 + 8 * axis, 38 + 8 * axis)) - translation[axis]!);
      const to = [0, 1, 2].map((axis) => from.reduce((sum, value, row) => sum + value * rotation[row]![axis]!, 0));
      return line.slice(0, 30) + to.map((value) => value.toFixed(3).padStart(8)).join("") + line.slice(54);
    })
    .join("\n");
}
