// Predicted aligned errors as a heat map: row, the residue that is aligned; column, the residue whose error it is.
import { h, svg } from "../dom.ts";
import { decimals } from "../format.ts";
import type { Focus, Range } from "./focus.ts";
import { counted, residueName } from "./text.ts";
import { residueTicks } from "./ticks.ts";

const HEADER = 16; // bytes: four numbers of 32 bits (docs/api.md)
const GREATEST = 31.75; // angstrom: the end of the scale
const SIDE = 320; // of the map in its drawing, without axes
const LEFT = 46;
const TOP = 8;
const BOTTOM = 40;
const RIGHT = 12;
// single hue, dark is a small error: the reader needs lightness alone
const DARK = [0, 68, 27] as const;
const LIGHT = [247, 252, 245] as const;

export interface Errors {
  /** Rows and columns. */
  side: number;
  residues: number;
  /** Residues of a row; above 1, values are means of blocks. */
  block: number;
  /** Values of one angstrom. */
  scale: number;
  values: Uint8Array;
}

/** Return the errors in the bytes of `GET /v1/pae`. Throws for other bytes. */
export function parseErrors(bytes: ArrayBuffer): Errors {
  if (bytes.byteLength < HEADER) throw new Error("The aligned errors are cut off.");
  const numbers = new DataView(bytes);
  const [side, residues, block, scale] = [0, 4, 8, 12].map((at) => numbers.getUint32(at, true)) as [
    number,
    number,
    number,
    number,
  ];
  if (bytes.byteLength !== HEADER + side * side || scale === 0) throw new Error("The aligned errors are cut off.");
  return { side, residues, block, scale, values: new Uint8Array(bytes, HEADER) };
}

/** Return the error in angstrom of residue `scored` if the structures are aligned on residue `aligned`. */
export function errorOf({ side, block, scale, values }: Errors, aligned: number, scored: number): number {
  return values[Math.floor(aligned / block) * side + Math.floor(scored / block)]! / scale;
}

export function meanOf({ values, scale }: Errors): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length / scale;
}

/** Return the colour of an error, as red, green and blue. */
function shade(error: number): [number, number, number] {
  const share = Math.min(1, error / GREATEST) ** 0.8;
  return [0, 1, 2].map((n) => Math.round(DARK[n]! + (LIGHT[n]! - DARK[n]!) * share)) as [number, number, number];
}

function picture({ side, scale, values }: Errors): string {
  const canvas = h("canvas", { width: side, height: side });
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(side, side);
  const palette = Array.from({ length: 256 }, (_, value) => shade(value / scale));
  values.forEach((value, at) => {
    image.data.set([...palette[value]!, 255], 4 * at);
  });
  context.putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}

export class ErrorMap {
  readonly drawing: SVGSVGElement;
  readonly readout: HTMLOutputElement;
  private readonly errors: Errors;
  private readonly sequence: string;
  private readonly focus: Focus;
  private readonly cross = svg("g", { class: "p-cross" });
  private readonly chosen = svg("rect", { class: "p-chosen", visibility: "hidden" });
  private place: [aligned: number, scored: number] = [0, 0];
  private begun: [aligned: number, scored: number] | null = null;

  constructor(errors: Errors, sequence: string, focus: Focus) {
    this.errors = errors;
    this.sequence = sequence;
    this.focus = focus;
    this.readout = h("output", { class: "p-readout", "aria-live": "polite" });
    this.drawing = this.draw();
    this.drawing.addEventListener("pointermove", this.move);
    this.drawing.addEventListener("pointerleave", () => this.leave());
    this.drawing.addEventListener("pointerdown", this.begin);
    this.drawing.addEventListener("pointerup", this.end);
    this.drawing.addEventListener("keydown", this.key);
    focus.whenSelected((selection) => this.showChosen(selection?.first, selection?.second));
    focus.whenPointed((residue, source) => {
      if (source !== this) this.point(residue === null ? null : [residue, residue]);
    });
  }

  private draw(): SVGSVGElement {
    const { residues, block } = this.errors;
    const mean = decimals(meanOf(this.errors), 1);
    const label =
      `Heat map of predicted aligned errors of ${counted(residues, "residue")}, ${mean} Å in the mean. ` +
      "Arrow keys move, with Shift they select residues, Escape clears.";
    const axis = residueTicks(residues, 5).flatMap((tick) => {
      const at = ((tick - 0.5) / residues) * SIDE;
      const text = String(tick);
      return [
        svg("line", { class: "p-tick", x1: LEFT + at, x2: LEFT + at, y1: TOP + SIDE, y2: TOP + SIDE + 4 }),
        svg("text", { class: "p-label", x: LEFT + at, y: TOP + SIDE + 16, "text-anchor": "middle" }, text),
        svg("line", { class: "p-tick", x1: LEFT - 4, x2: LEFT, y1: TOP + at, y2: TOP + at }),
        svg("text", { class: "p-label", x: LEFT - 7, y: TOP + at + 4, "text-anchor": "end" }, text),
      ];
    });
    const middle = TOP + SIDE / 2;
    return svg(
      "svg",
      {
        class: "p-pae",
        viewBox: `0 0 ${LEFT + SIDE + RIGHT} ${TOP + SIDE + BOTTOM}`,
        role: "application",
        tabindex: 0,
        "aria-label": label,
        "data-block": block,
      },
      svg("image", {
        x: LEFT,
        y: TOP,
        width: SIDE,
        height: SIDE,
        href: picture(this.errors),
        preserveAspectRatio: "none",
      }),
      svg("rect", { class: "p-frame", x: LEFT, y: TOP, width: SIDE, height: SIDE }),
      ...axis,
      svg(
        "text",
        { class: "p-label", x: LEFT + SIDE / 2, y: TOP + SIDE + 34, "text-anchor": "middle" },
        "Scored residue",
      ),
      svg(
        "text",
        { class: "p-label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` },
        "Aligned residue",
      ),
      this.chosen,
      this.cross,
    );
  }

  private at(event: PointerEvent): [number, number] | null {
    const box = this.drawing.getBoundingClientRect();
    const scale = (LEFT + SIDE + RIGHT) / box.width;
    const x = ((event.clientX - box.left) * scale - LEFT) / SIDE;
    const y = ((event.clientY - box.top) * scale - TOP) / SIDE;
    const inside = (value: number) =>
      Math.max(0, Math.min(this.errors.residues - 1, Math.floor(value * this.errors.residues)));
    if (!this.begun && (x < 0 || x >= 1 || y < 0 || y >= 1)) return null;
    return [inside(y), inside(x)];
  }

  private readonly move = (event: PointerEvent): void => {
    const place = this.at(event);
    if (!place) {
      this.leave();
      return;
    }
    this.show(place);
    if (this.begun) this.showChosen([this.begun[0], place[0]], [this.begun[1], place[1]]);
  };

  private readonly begin = (event: PointerEvent): void => {
    const place = this.at(event);
    if (!place || event.button !== 0) return;
    this.drawing.setPointerCapture(event.pointerId);
    this.begun = place;
  };

  private readonly end = (event: PointerEvent): void => {
    const place = this.at(event);
    const { begun } = this;
    this.begun = null;
    if (begun && place) this.choose(begun, place);
  };

  private choose(begun: [number, number], place: [number, number]): void {
    const isPoint = begun[0] === place[0] && begun[1] === place[1];
    this.focus.select(
      isPoint && this.focus.selection ? null : { first: [begun[0], place[0]], second: [begun[1], place[1]] },
    );
  }

  private readonly key = (event: KeyboardEvent): void => {
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    if (event.key === "Escape") {
      this.begun = null;
      this.focus.select(null);
      return;
    }
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const last = this.errors.residues - 1;
    const stride = event.ctrlKey ? 10 : 1;
    const within = (value: number) => Math.max(0, Math.min(last, value));
    if (event.shiftKey) this.begun ??= this.place;
    else this.begun = null;
    this.show([within(this.place[0] + stride * step[0]), within(this.place[1] + stride * step[1])]);
    if (this.begun)
      this.focus.select({ first: [this.begun[0], this.place[0]], second: [this.begun[1], this.place[1]] });
  };

  private leave(): void {
    this.point(null);
    this.readout.value = "";
    this.focus.point(null, this);
  }

  private show(place: [number, number]): void {
    this.place = place;
    this.point(place);
    const [aligned, scored] = place;
    const error = errorOf(this.errors, aligned, scored);
    const names = `${residueName(this.sequence, scored)}, aligned on ${residueName(this.sequence, aligned)}`;
    this.readout.value = `${names}: ${decimals(error, 1)} Å`;
    this.focus.point(scored, this);
  }

  private point(place: [number, number] | null): void {
    this.cross.replaceChildren();
    if (!place) return;
    const { residues } = this.errors;
    const [y, x] = place.map((value) => ((value + 0.5) / residues) * SIDE) as [number, number];
    this.cross.replaceChildren(
      svg("line", { x1: LEFT + x, x2: LEFT + x, y1: TOP, y2: TOP + SIDE }),
      svg("line", { x1: LEFT, x2: LEFT + SIDE, y1: TOP + y, y2: TOP + y }),
    );
  }

  private showChosen(rows: Range | undefined, columns: Range | undefined): void {
    this.chosen.setAttribute("visibility", rows ? "visible" : "hidden");
    if (!rows) return;
    const { residues } = this.errors;
    const part = (range: Range) => {
      const [from, to] = [Math.min(...range), Math.max(...range) + 1];
      return [(from / residues) * SIDE, Math.max(1, ((to - from) / residues) * SIDE)] as const;
    };
    const [y, height] = part(rows);
    const [x, width] = part(columns ?? rows);
    for (const [name, value] of Object.entries({ x: LEFT + x, y: TOP + y, width, height }))
      this.chosen.setAttribute(name, String(value));
  }
}

/** Return the key to the colours, from 0 to the greatest error. */
export function errorScale(): SVGSVGElement {
  const [width, height] = [220, 34];
  const steps = 44;
  const cells = Array.from({ length: steps }, (_, n) =>
    svg("rect", {
      x: 10 + (n * (width - 20)) / steps,
      y: 2,
      width: (width - 20) / steps + 0.5,
      height: 10,
      fill: `rgb(${shade((n * GREATEST) / (steps - 1)).join(",")})`,
    }),
  );
  const labels = [0, 10, 20, 30].map((value) =>
    svg(
      "text",
      { class: "p-label", x: 10 + (value / GREATEST) * (width - 20), y: 26, "text-anchor": "middle" },
      value === 30 ? "30 Å" : String(value),
    ),
  );
  return svg(
    "svg",
    {
      class: "p-scale",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": "Dark is an error of 0, white of 30 angstrom or more",
    },
    ...cells,
    ...labels,
  );
}
