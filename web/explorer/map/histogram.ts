// A histogram of a column of numbers, with a brush: by mouse or touch on the bars, by keyboard on its two handles, or by
// two numbers. The brush snaps to the edges of the bars, so that what is counted is what is selected.
import { h, svg } from "../dom.ts";
import { brief, digitsFor, ticks } from "../format.ts";

/** A range; null is no bound. `below` itself is outside. */
export interface Range {
  readonly least: number | null;
  readonly below: number | null;
}

export interface HistogramData {
  /** Edges of the bins, one more than there are bins. */
  readonly edges: readonly number[];
  readonly all: readonly number[];
  readonly matching: readonly number[];
  readonly nulls: number;
}

export interface HistogramOptions {
  readonly label: string;
  readonly unit: string;
  readonly color?: ((value: number) => string) | undefined;
  /** Called while the brush is moved (final: false), and at its end. */
  readonly brushed: (range: Range, final: boolean) => void;
}

export const WIDTH = 320;
export const HEIGHT = 104;
const TOP = 6;
const BOTTOM = 82;
const SIDE = 10;

export class Histogram {
  readonly element: HTMLElement;
  private readonly options: HistogramOptions;
  private readonly plot = svg("svg", { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  private readonly note = h("span", { class: "quiet" });
  private readonly least: HTMLInputElement;
  private readonly below: HTMLInputElement;
  private data: HistogramData = { edges: [0, 1], all: [0], matching: [0], nulls: 0 };
  private range: Range = { least: null, below: null };
  private dragging = false;

  constructor(options: HistogramOptions) {
    this.options = options;
    this.least = this.input("from");
    this.below = this.input("below");
    const ends = h(
      "div",
      { class: "ends" },
      this.least,
      h("span", { "aria-hidden": "true" }, "to"),
      this.below,
      this.note,
    );
    this.element = h("div", { class: "number-chart" }, this.plot, ends);
    this.addPointer();
  }

  update(data: HistogramData, range: Range): void {
    this.redraw(data, this.dragging ? this.range : range);
  }

  private redraw(data: HistogramData, range: Range): void {
    this.data = data;
    this.range = range;
    const focused = (document.activeElement as SVGElement | null)?.dataset?.["end"];
    const inside = this.plot.contains(document.activeElement);
    this.plot.replaceChildren(...drawHistogram(data, range, this.options));
    for (const end of ["least", "below"] as const) this.plot.append(this.handle(end));
    if (inside && focused) (this.plot.querySelector(`[data-end="${focused}"]`) as SVGElement | null)?.focus();
    if (document.activeElement !== this.least) this.least.value = range.least === null ? "" : String(range.least);
    if (document.activeElement !== this.below) this.below.value = range.below === null ? "" : String(range.below);
    this.least.placeholder = String(shown(data.edges[0]!, data));
    this.below.placeholder = String(shown(data.edges.at(-1)!, data));
    this.note.textContent = data.nulls ? `${brief(data.nulls)} without a value` : "";
  }

  private input(end: "from" | "below"): HTMLInputElement {
    return h("input", {
      type: "text",
      inputmode: "decimal",
      "aria-label": `${this.options.label}, ${end}`,
      onchange: () => {
        const value = (input: HTMLInputElement) => (input.value.trim() === "" ? Number.NaN : Number(input.value));
        const [low, high] = [value(this.least), value(this.below)];
        this.set(Number.isFinite(low) ? low : null, Number.isFinite(high) ? high : null, true);
      },
      onkeydown: (event: KeyboardEvent) => {
        if (event.key === "Escape") this.set(null, null, true);
      },
    });
  }

  private set(least: number | null, below: number | null, final: boolean): void {
    const range = least !== null && below !== null && least > below ? { least: below, below: least } : { least, below };
    const changed = range.least !== this.range.least || range.below !== this.range.below;
    if (!changed && !final) return;
    this.redraw(this.data, range);
    this.options.brushed(range, final);
  }

  private handle(end: "least" | "below"): SVGElement {
    const { edges } = this.data;
    const value = this.range[end] ?? (end === "least" ? edges[0]! : edges.at(-1)!);
    const x = toX(edges, value);
    return svg(
      "g",
      {
        class: `handle${this.range[end] === null ? " idle" : ""}`,
        "data-end": end,
        tabindex: 0,
        role: "slider",
        "aria-label": `${this.options.label}, ${end === "least" ? "from" : "below"}`,
        "aria-valuemin": shown(edges[0]!, this.data),
        "aria-valuemax": shown(edges.at(-1)!, this.data),
        "aria-valuenow": shown(value, this.data),
        onkeydown: (event: KeyboardEvent) => this.key(event, end, value),
      },
      svg("rect", { class: "grip-area", x: x - 12, y: TOP, width: 24, height: BOTTOM - TOP }),
      svg("line", { x1: x, x2: x, y1: TOP, y2: BOTTOM }),
      svg("rect", { class: "grip", x: x - 3.5, y: (TOP + BOTTOM) / 2 - 10, width: 7, height: 20, rx: 3 }),
    );
  }

  private key(event: KeyboardEvent, end: "least" | "below", value: number): void {
    const { edges } = this.data;
    const place = edges.reduce(
      (best, edge, i) => (Math.abs(edge - value) < Math.abs(edges[best]! - value) ? i : best),
      0,
    );
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -5,
      PageUp: 5,
      Home: -edges.length,
      End: edges.length,
    };
    if (event.key === "Escape") this.set(null, null, true);
    else if (steps[event.key] !== undefined) {
      const next = Math.max(0, Math.min(edges.length - 1, place + steps[event.key]!));
      const limit = end === "least" ? next === 0 : next === edges.length - 1;
      const edge = limit ? null : edges[next]!;
      if (end === "least") this.set(edge, this.range.below, true);
      else this.set(this.range.least, edge, true);
    } else return;
    event.preventDefault();
  }

  private addPointer(): void {
    let from = 0;
    let before: Range = this.range;
    let mode: "new" | "move" | "least" | "below" = "new";
    const at = (event: PointerEvent) => {
      const box = this.plot.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * WIDTH;
    };
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      this.plot.setPointerCapture(event.pointerId);
      from = at(event);
      before = this.range;
      mode = this.grabbed(from, event);
      this.dragging = true;
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (!this.dragging) return;
      const x = at(event);
      if (mode === "new" && Math.abs(x - from) < 3) return;
      this.drag(mode, before, from, x, false);
    });
    const end = (event: PointerEvent) => {
      if (!this.dragging) return;
      this.dragging = false;
      const x = at(event);
      if (event.type === "pointercancel") this.set(before.least, before.below, true);
      else if (mode === "new" && Math.abs(x - from) < 3) this.click(x, before);
      else this.drag(mode, before, from, x, true);
    };
    this.plot.addEventListener("pointerup", end);
    this.plot.addEventListener("pointercancel", end);
  }

  /** Return what a press at x takes hold of. */
  private grabbed(x: number, event: PointerEvent): "new" | "move" | "least" | "below" {
    const { edges } = this.data;
    const reach = event.pointerType === "touch" ? 16 : 7;
    for (const end of ["least", "below"] as const)
      if (this.range[end] !== null && Math.abs(toX(edges, this.range[end]) - x) < reach) return end;
    const low = this.range.least ?? edges[0]!;
    const high = this.range.below ?? edges.at(-1)!;
    const any = this.range.least !== null || this.range.below !== null;
    return any && x > toX(edges, low) && x < toX(edges, high) ? "move" : "new";
  }

  private drag(mode: "new" | "move" | "least" | "below", before: Range, from: number, x: number, final: boolean): void {
    const { edges } = this.data;
    const [first, last] = [edges[0]!, edges.at(-1)!];
    let low = before.least ?? first;
    let high = before.below ?? last;
    if (mode === "new")
      [low, high] = [Math.min(from, x), Math.max(from, x)].map((each) => toValue(edges, each)) as [number, number];
    else if (mode === "least") low = toValue(edges, x);
    else if (mode === "below") high = toValue(edges, x);
    else {
      const shift = toValue(edges, x) - toValue(edges, from);
      const kept = Math.max(first - low, Math.min(last - high, shift));
      [low, high] = [low + kept, high + kept];
    }
    [low, high] = [snapped(edges, Math.min(low, high)), snapped(edges, Math.max(low, high))];
    if (low === high) {
      const place = Math.min(edges.indexOf(low), edges.length - 2);
      [low, high] = [edges[place]!, edges[place + 1]!];
    }
    this.set(low <= first ? null : low, high >= last ? null : high, final);
  }

  /** A click without a drag selects one bar, or removes the brush. */
  private click(x: number, before: Range): void {
    if (before.least !== null || before.below !== null) this.set(null, null, true);
    else this.drag("new", before, x, x, true);
  }
}

function toX(edges: readonly number[], value: number): number {
  const [first, last] = [edges[0]!, edges.at(-1)!];
  const part = last > first ? (value - first) / (last - first) : 0;
  return SIDE + Math.max(0, Math.min(1, part)) * (WIDTH - 2 * SIDE);
}

function toValue(edges: readonly number[], x: number): number {
  const part = Math.max(0, Math.min(1, (x - SIDE) / (WIDTH - 2 * SIDE)));
  return edges[0]! + part * (edges.at(-1)! - edges[0]!);
}

function snapped(edges: readonly number[], value: number): number {
  return edges.reduce((best, edge) => (Math.abs(edge - value) < Math.abs(best - value) ? edge : best), edges[0]!);
}

function shown(value: number, data: HistogramData): number {
  return Number(value.toFixed(digitsFor(data.edges.at(-1)! - data.edges[0]!)));
}

/** Return the marks of a histogram: all in grey behind, what matches in front, each by its own highest bar. */
export function drawHistogram(
  data: HistogramData,
  range: Range,
  options: Pick<HistogramOptions, "label" | "unit" | "color">,
): SVGElement[] {
  const { edges, all, matching } = data;
  const bars = (counts: readonly number[], kind: string) => {
    const most = Math.max(1, ...counts);
    return counts.flatMap((value, i) => {
      if (!value) return [];
      const [x0, x1] = [toX(edges, edges[i]!), toX(edges, edges[i + 1]!)];
      const height = Math.max(1.5, (value / most) * (BOTTOM - TOP));
      const gap = x1 - x0 > 4 ? 0.8 : 0;
      const fill = kind === "bar" && options.color ? options.color((edges[i]! + edges[i + 1]!) / 2) : null;
      const box = { x: x0 + gap / 2, y: BOTTOM - height, width: Math.max(0.5, x1 - x0 - gap), height };
      return [svg("rect", { class: kind, ...box, fill })];
    });
  };
  const marks: SVGElement[] = [];
  const total = matching.reduce((sum, value) => sum + value, 0);
  marks.push(
    svg(
      "title",
      {},
      `${options.label}: ${total} proteins that match, of ${all.reduce((sum, value) => sum + value, 0)}`,
    ),
  );
  if (range.least !== null || range.below !== null) {
    const [x0, x1] = [toX(edges, range.least ?? edges[0]!), toX(edges, range.below ?? edges.at(-1)!)];
    marks.push(svg("rect", { class: "brush", x: x0, y: TOP, width: x1 - x0, height: BOTTOM - TOP }));
  }
  marks.push(...bars(all, "bar-all"), ...bars(matching, "bar"));
  marks.push(svg("line", { class: "axis", x1: SIDE, x2: WIDTH - SIDE, y1: BOTTOM, y2: BOTTOM }));
  for (const value of ticks(edges[0]!, edges.at(-1)!, 5)) {
    const x = toX(edges, value);
    marks.push(svg("text", { class: "tick", x, y: BOTTOM + 14, "text-anchor": "middle" }, brief(value)));
  }
  return marks;
}
