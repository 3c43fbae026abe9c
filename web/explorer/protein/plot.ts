// pLDDT along the sequence as a line, above bands of its classes, with what the nearest known structure covers.
import { svg } from "../dom.ts";
import { decimals } from "../format.ts";
import { PLDDT_CLASSES } from "../plddt.ts";
import type { Focus, Selection } from "./focus.ts";
import { residueTicks } from "./ticks.ts";
import type { Protein, Superposed } from "./types.ts";

const FIRST_WIDTH = 900; // until the page is laid out
const HEIGHT = 176;
const LEFT = 46;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 52;
const DEEP = HEIGHT - TOP - BOTTOM;
const WIDTH_OF_TICK = 90;

export class PlddtPlot {
  readonly drawing: SVGSVGElement;
  private readonly protein: Protein;
  private readonly line = svg("line", { class: "p-crosshair", visibility: "hidden", y1: TOP, y2: TOP + DEEP });
  private readonly chosen = svg("g", {});
  private readonly covered = svg("g", { class: "p-covered" });
  private width = FIRST_WIDTH;
  private begun: number | null = null;
  private known: Superposed | null = null;

  constructor(protein: Protein, focus: Focus) {
    this.protein = protein;
    const mean = decimals(protein.mean_plddt, 1);
    this.drawing = svg("svg", {
      class: "p-plot",
      role: "img",
      "aria-label": `Line of pLDDT from residue 1 to ${protein.length}; mean ${mean}. The sequence below has the values.`,
    });
    this.draw();
    this.drawing.addEventListener("pointermove", (event) => {
      const residue = this.at(event);
      if (this.begun !== null) focus.select({ first: [this.begun, residue] });
      focus.point(residue, this);
    });
    this.drawing.addEventListener("pointerleave", () => focus.point(null, this));
    this.drawing.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.drawing.setPointerCapture(event.pointerId);
      this.begun = this.at(event);
    });
    this.drawing.addEventListener("pointerup", (event) => {
      if (this.begun !== null && this.at(event) === this.begun) focus.select(null);
      this.begun = null;
    });
    focus.whenPointed((residue) => this.mark(residue));
    focus.whenSelected((selection) => this.showSelection(selection));
    new ResizeObserver(() => {
      const width = Math.round(this.drawing.clientWidth);
      if (width < 1 || width === this.width) return;
      this.width = width;
      this.draw();
      this.showSelection(focus.selection);
    }).observe(this.drawing);
  }

  private get inner(): number {
    return this.width - LEFT - RIGHT;
  }

  private x(residue: number): number {
    return LEFT + ((residue + 0.5) / this.protein.length) * this.inner;
  }

  private at(event: PointerEvent): number {
    const box = this.drawing.getBoundingClientRect();
    const share = (((event.clientX - box.left) * this.width) / box.width - LEFT) / this.inner;
    return Math.max(0, Math.min(this.protein.length - 1, Math.floor(share * this.protein.length)));
  }

  private draw(): void {
    const { protein, inner } = this;
    const y = (plddt: number) => TOP + DEEP * (1 - plddt / 100);
    const tops = [100, 90, 70, 50];
    const bands = PLDDT_CLASSES.map((each, n) =>
      svg("rect", {
        class: `p-band p-${each.css}`,
        x: LEFT,
        width: inner,
        y: y(tops[n]!),
        height: y(Math.max(0, each.above)) - y(tops[n]!),
      }),
    );
    const levels = [0, 50, 70, 90].map((value) =>
      svg("text", { class: "p-label", x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, value),
    );
    const numbers = residueTicks(protein.length, Math.max(2, inner / WIDTH_OF_TICK)).flatMap((tick) => [
      svg("line", { class: "p-tick", x1: this.x(tick - 1), x2: this.x(tick - 1), y1: TOP + DEEP, y2: TOP + DEEP + 4 }),
      svg("text", { class: "p-label", x: this.x(tick - 1), y: TOP + DEEP + 16, "text-anchor": "middle" }, tick),
    ]);
    const middle = TOP + DEEP / 2;
    const name = { class: "p-label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` };
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.drawing.replaceChildren(
      ...bands,
      this.chosen,
      svg("path", { class: "p-line", d: linePath(protein.plddt, (residue) => this.x(residue), y) }),
      svg("rect", { class: "p-frame", x: LEFT, y: TOP, width: inner, height: DEEP }),
      ...levels,
      ...numbers,
      svg("text", { class: "p-label", x: LEFT + inner, y: HEIGHT - 18, "text-anchor": "end" }, "Residue"),
      svg("text", name, "pLDDT"),
      this.covered,
      this.line,
    );
    if (this.known) this.addKnown(this.known);
  }

  /** Show which residues are aligned with the nearest known structure. */
  addKnown(known: Superposed): void {
    this.known = known;
    const y = HEIGHT - 10;
    const parts = known.alignment.map(([first, , size]) =>
      svg("rect", {
        x: this.x(first - 0.5),
        width: Math.max(1, (size / this.protein.length) * this.inner),
        y,
        height: 7,
      }),
    );
    this.covered.replaceChildren(
      svg("line", { x1: LEFT, x2: LEFT + this.inner, y1: y + 3.5, y2: y + 3.5 }),
      ...parts,
      svg("title", {}, `Aligned with ${known.target}`),
    );
  }

  private mark(residue: number | null): void {
    this.line.setAttribute("visibility", residue === null ? "hidden" : "visible");
    if (residue === null) return;
    for (const name of ["x1", "x2"]) this.line.setAttribute(name, String(this.x(residue)));
  }

  private showSelection(selection: Selection | null): void {
    const part = (css: string, range: readonly [number, number] | undefined) =>
      range
        ? [
            svg("rect", {
              class: css,
              x: this.x(range[0] - 0.5),
              width: this.x(range[1] + 0.5) - this.x(range[0] - 0.5),
              y: TOP,
              height: DEEP,
            }),
          ]
        : [];
    this.chosen.replaceChildren(...part("p-second", selection?.second), ...part("p-first", selection?.first));
  }
}

function linePath(
  plddt: readonly (number | null)[],
  x: (residue: number) => number,
  y: (plddt: number) => number,
): string {
  let path = "";
  let isDown = false;
  plddt.forEach((value, residue) => {
    if (value === null) {
      isDown = false;
      return;
    }
    // a residue between two without pLDDT is a line of no length, which round ends make a dot
    path += isDown
      ? `L${x(residue).toFixed(2)} ${y(value).toFixed(2)}`
      : `M${x(residue).toFixed(2)} ${y(value).toFixed(2)}h0`;
    isDown = true;
  });
  return path;
}
