// The sequence, each residue on the colour of its pLDDT. Pointing and selecting are shared with the other views.
import { h } from "../dom.ts";
import { cssOf } from "./colours.ts";
import { type Focus, isIn, type Selection } from "./focus.ts";
import type { Protein } from "./types.ts";
import { describe } from "./viewer.ts";

const BLOCK = 10; // residues between spaces
const MOST = 6_000; // residues that are elements of their own

export class SequenceView {
  readonly box: HTMLElement;
  readonly readout: HTMLOutputElement;
  private readonly protein: Protein;
  private readonly focus: Focus;
  private readonly residues: HTMLElement[] = [];
  private cursor = 0;
  private begun: number | null = null;
  private marked: HTMLElement | null = null;

  constructor(protein: Protein, focus: Focus) {
    this.protein = protein;
    this.focus = focus;
    this.readout = h("output", { class: "p-readout", "aria-live": "polite" });
    this.box = h("div", {
      class: "p-sequence",
      role: "application",
      tabindex: 0,
      "aria-label":
        `Sequence of ${protein.length} residues, coloured by pLDDT. ` +
        "Arrow keys move, with Shift they select residues, Escape clears.",
    });
    this.fill();
    this.listen();
  }

  private fill(): void {
    const letters = Array.from(this.protein.sequence.slice(0, MOST));
    for (let start = 0; start < letters.length; start += BLOCK) {
      const block = letters.slice(start, start + BLOCK).map((letter, n) => {
        const residue = h("span", { class: `p-residue p-${cssOf(this.protein.plddt[start + n])}` }, letter);
        residue.dataset["residue"] = String(start + n);
        this.residues.push(residue);
        return residue;
      });
      this.box.append(
        h("span", { class: "p-block" }, h("span", { class: "p-number", "aria-hidden": "true" }, start + 1), ...block),
      );
    }
  }

  private listen(): void {
    this.box.addEventListener("pointermove", (event) => {
      const residue = this.at(event.clientX, event.clientY);
      if (this.begun !== null && residue !== null) this.focus.select({ first: [this.begun, residue] });
      this.focus.point(residue, this);
    });
    this.box.addEventListener("pointerleave", () => this.focus.point(null, this));
    this.box.addEventListener("pointerdown", (event) => {
      const residue = event.button === 0 ? this.at(event.clientX, event.clientY) : null;
      if (residue === null) return;
      const { selection } = this.focus;
      const isAgain =
        selection && !selection.second && selection.first[0] === residue && selection.first[1] === residue;
      this.begun = residue;
      this.cursor = residue;
      this.focus.select(
        isAgain ? null : { first: [event.shiftKey && selection ? selection.first[0] : residue, residue] },
      );
    });
    for (const name of ["pointerup", "pointercancel"]) this.box.addEventListener(name, () => (this.begun = null));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => this.focus.point(null, this));
    this.focus.whenPointed((residue) => this.mark(residue));
    this.focus.whenSelected((selection) => this.showSelection(selection));
  }

  private at(x: number, y: number): number | null {
    const found = document.elementFromPoint(x, y);
    const residue = found instanceof HTMLElement && this.box.contains(found) ? found.dataset["residue"] : undefined;
    return residue === undefined ? null : Number(residue);
  }

  private key(event: KeyboardEvent): void {
    const line = this.inLine();
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -line,
      ArrowDown: line,
      Home: -this.protein.length,
      End: this.protein.length,
    };
    if (event.key === "Escape") {
      this.focus.select(null);
      return;
    }
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const before = this.cursor;
    this.cursor = Math.max(0, Math.min(this.residues.length - 1, before + step));
    if (event.shiftKey) {
      this.begun ??= before;
      this.focus.select({ first: [this.begun, this.cursor] });
    } else this.begun = null;
    this.focus.point(this.cursor, this);
  }

  /** Return how many residues are in a line, as the window breaks it now. */
  private inLine(): number {
    const top = this.residues[0]?.offsetTop;
    const next = this.residues.findIndex((residue) => residue.offsetTop !== top);
    return next > 0 ? next : this.residues.length;
  }

  private mark(residue: number | null): void {
    this.marked?.classList.remove("p-pointed");
    this.marked = residue === null ? null : (this.residues[residue] ?? null);
    this.marked?.classList.add("p-pointed");
    this.readout.value = residue === null ? "" : describe(this.protein, residue);
  }

  private showSelection(selection: Selection | null): void {
    this.residues.forEach((element, residue) => {
      element.classList.toggle("p-first", selection !== null && isIn(residue, selection.first));
      element.classList.toggle("p-second", isIn(residue, selection?.second) && !isIn(residue, selection?.first));
    });
  }

  /** What is not shown of a long sequence, or an empty text. */
  get omitted(): string {
    const { length } = this.protein;
    return length > MOST ? `The first ${MOST} of ${length} residues are shown; copying and downloads have all.` : "";
  }
}
