// pLDDT along the sequence as a line, above bands of its classes, with what the nearest known structure covers.
import { h, svg } from "../dom.ts";
import { CLASSES } from "./colours.ts";
import type { Focus, Selection } from "./focus.ts";
import { decimals } from "./text.ts";
import { ticks } from "./ticks.ts";
import type { Protein, Superposed } from "./types.ts";
import { describe } from "./viewer.ts";

const WIDTH = 900;
const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 52;
const INNER = WIDTH - LEFT - RIGHT;
const DEEP = HEIGHT - TOP - BOTTOM;

export class PlddtPlot {
  readonly drawing: SVGSVGElement;
  readonly readout: HTMLOutputElement;
  private readonly protein: Protein;
  private readonly line = svg("line", { class: "p-crosshair", visibility: "hidden", y1: TOP, y2: TOP + DEEP });
  private readonly chosen = svg("g", {});
  private readonly covered = svg("g", { class: "p-covered" });
  private begun: number | null = null;

  constructor(protein: Protein, focus: Focus) {
    this.protein = protein;
    this.readout = h("output", { class: "p-readout", "aria-live": "polite" });
    this.drawing = this.draw();
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
  }

  private x(residue: number): number {
    return LEFT + ((residue + 0.5) / this.protein.length) * INNER;
  }

  private at(event: PointerEvent): number {
    const box = this.drawing.getBoundingClientRect();
    const share = (((event.clientX - box.left) * WIDTH) / box.width - LEFT) / INNER;
    return Math.max(0, Math.min(this.protein.length - 1, Math.floor(share * this.protein.length)));
  }

  private draw(): SVGSVGElement {
    const { protein } = this;
    const y = (plddt: number) => TOP + DEEP * (1 - plddt / 100);
    const tops = [100, 90, 70, 50];
    const bands = CLASSES.map((each, n) =>
      svg("rect", {
        class: `p-band p-${each.css}`,
        x: LEFT,
        width: INNER,
        y: y(tops[n]!),
        height: y(Math.max(0, each.above)) - y(tops[n]!),
      }),
    );
    const levels = [0, 50, 70, 90, 100].map((value) =>
      svg("text", { class: "p-label", x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, value),
    );
    const numbers = ticks(1, protein.length, 9).flatMap((tick) => [
      svg("line", { class: "p-tick", x1: this.x(tick - 1), x2: this.x(tick - 1), y1: TOP + DEEP, y2: TOP + DEEP + 4 }),
      svg("text", { class: "p-label", x: this.x(tick - 1), y: TOP + DEEP + 16, "text-anchor": "middle" }, tick),
    ]);
    const mean = decimals(protein.mean_plddt, 1);
    return svg(
      "svg",
      {
        class: "p-plot",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "img",
        "aria-label": `Line of pLDDT from residue 1 to ${protein.length}; mean ${mean}. The sequence below has the values.`,
      },
      ...bands,
      this.chosen,
      svg("path", { class: "p-line", d: linePath(protein.plddt, (residue) => this.x(residue), y) }),
      svg("rect", { class: "p-frame", x: LEFT, y: TOP, width: INNER, height: DEEP }),
      ...levels,
      ...numbers,
      svg("text", { class: "p-label", x: LEFT + INNER, y: HEIGHT - 18, "text-anchor": "end" }, "Residue"),
      svg(
        "text",
        {
          class: "p-label",
          x: 12,
          y: TOP + DEEP / 2,
          "text-anchor": "middle",
          transform: `rotate(-90 12 ${TOP + DEEP / 2})`,
        },
        "pLDDT",
      ),
      this.covered,
      this.line,
    );
  }

  /** Show which residues are aligned with the nearest known structure. */
  addKnown(known: Superposed): void {
    const y = HEIGHT - 10;
    const parts = known.alignment.map(([first, , size]) =>
      svg("rect", { x: this.x(first - 0.5), width: Math.max(1, (size / this.protein.length) * INNER), y, height: 7 }),
    );
    this.covered.replaceChildren(
      svg("line", { x1: LEFT, x2: LEFT + INNER, y1: y + 3.5, y2: y + 3.5 }),
      ...parts,
      svg("title", {}, `Aligned with ${known.target}`),
    );
  }

  private mark(residue: number | null): void {
    this.readout.value = residue === null ? "" : describe(this.protein, residue);
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
