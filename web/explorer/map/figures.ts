// Figures to paste: the map as PNG, the histograms as SVG. Both are light, whatever the theme, as papers are.
import { svg } from "../dom.ts";
import { brief, count, printable, ticks } from "../format.ts";
import { render, type Scene } from "./canvas.ts";
import { type Coloring, legendText } from "./coloring.ts";
import { drawHistogram, HEIGHT, type HistogramData, type Range, WIDTH } from "./histogram.ts";
import { rampColor } from "./palette.ts";
import { toPixel } from "./viewport.ts";

const SCALE = 2; // pixels of the PNG for one on the screen
const FONT = "system-ui, 'Segoe UI', Arial, sans-serif";
const TEXT = "#1b1f24";
const LINE = "#d3d8de";

export interface MapFigure {
  readonly scene: Scene;
  readonly width: number;
  readonly height: number;
  readonly title: string;
  readonly coloring: Coloring;
}

/** Return the map with its axes, title and legend as PNG. */
export async function mapPng(figure: MapFigure): Promise<Blob> {
  const { scene, width, height } = figure;
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  context.font = `13px ${FONT}`;
  const entries = figure.coloring.legend.map((entry) => {
    const shown = legendText(entry);
    return { label: shown, color: entry.color, width: context.measureText(shown).width + 34 };
  });
  const rows = legendRows(
    entries.map((entry) => entry.width),
    width - 24,
  );
  const top = 34;
  const bottom = 16 + 22 * (figure.coloring.ramp ? 1 : rows.length);
  [canvas.width, canvas.height] = [width * SCALE, (top + height + bottom) * SCALE];
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const light = { ...scene, highlight: null };
  context.putImageData(render(light, width * SCALE, height * SCALE, SCALE, 0xffffffff), 0, top * SCALE);
  context.scale(SCALE, SCALE);
  context.font = `13px ${FONT}`;
  drawFrame(context, figure, top);
  if (figure.coloring.ramp) drawRamp(context, figure.coloring.column.label, figure.coloring.ramp, top + height + 12);
  else
    rows.forEach((row, line) => {
      let x = 12;
      for (const place of row) {
        const entry = entries[place]!;
        const y = top + height + 12 + 22 * line;
        context.fillStyle = entry.color;
        context.fillRect(x, y, 12, 12);
        context.fillStyle = TEXT;
        context.fillText(entry.label, x + 18, y + 11);
        x += entry.width;
      }
    });
  return new Promise((done, failed) =>
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the browser cannot make a PNG of this size")))),
  );
}

/** Return the places of entries in rows that are at most `width` wide. */
function legendRows(widths: readonly number[], width: number): number[][] {
  const rows: number[][] = [[]];
  let used = 0;
  widths.forEach((each, place) => {
    if (used + each > width && used > 0) {
      rows.push([]);
      used = 0;
    }
    rows.at(-1)!.push(place);
    used += each;
  });
  return rows;
}

function drawFrame(context: CanvasRenderingContext2D, { scene, width, height, title }: MapFigure, top: number): void {
  context.fillStyle = TEXT;
  context.font = `bold 15px ${FONT}`;
  context.fillText(title, 12, 22);
  context.font = `12px ${FONT}`;
  context.strokeStyle = LINE;
  context.strokeRect(0.5, top + 0.5, width - 1, height - 1);
  const { axes, window } = scene;
  if (axes) {
    for (const x of ticks(window.x0, window.x1, Math.max(2, width / 110))) {
      const [px] = toPixel(window, width, height, [x, 0]);
      if (px > 24 && px < width - 40) context.fillText(String(x), px - 8, top + height - 20);
    }
    for (const y of ticks(window.y0, window.y1, Math.max(2, height / 80))) {
      const [, py] = toPixel(window, width, height, [0, y]);
      if (py > 24 && py < height - 40) context.fillText(String(y), 6, top + py - 3);
    }
    context.fillText(axes.x, width / 2 - 40, top + height - 6);
    context.fillText(axes.y, 6, top + 15);
  }
  if (scene.region.length < 2) return;
  const corners = scene.region.map((corner) => toPixel(window, width, height, corner));
  context.setLineDash([5, 3]);
  context.strokeStyle = TEXT;
  context.beginPath();
  if (corners.length === 2) {
    const [[x0, y0], [x1, y1]] = [corners[0]!, corners[1]!];
    context.rect(x0, top + y0, x1 - x0, y1 - y0);
  } else {
    for (const [x, y] of corners) context.lineTo(x, top + y);
    context.closePath();
  }
  context.stroke();
  context.setLineDash([]);
}

function drawRamp(
  context: CanvasRenderingContext2D,
  label: string,
  [low, high]: readonly [number, number],
  y: number,
): void {
  context.fillStyle = TEXT;
  const text = `${label}  ${brief(low)}`;
  context.fillText(text, 12, y + 11);
  const left = 20 + context.measureText(text).width;
  for (let step = 0; step < 160; step++) {
    context.fillStyle = rampColor(step / 159);
    context.fillRect(left + step, y, 1.5, 12);
  }
  context.fillStyle = TEXT;
  context.fillText(brief(high), left + 168, y + 11);
}

export interface ChartFigure {
  readonly label: string;
  readonly unit: string;
  readonly data: HistogramData;
  readonly range: Range;
  readonly color: ((value: number) => string) | undefined;
}

// As presentation attributes, so that any program shows them alike.
const STYLE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "bar-all": { fill: "#d6dbe1" },
  bar: { fill: "#0b4f9c" },
  brush: { fill: "#0b4f9c", "fill-opacity": "0.1" },
  axis: { stroke: TEXT, "stroke-width": "1" },
  tick: { fill: TEXT, "font-size": "11" },
};

/** Return the histograms, two in a row, as the text of an SVG file. */
export function chartsSvg(charts: readonly ChartFigure[], matching: number, proteins: number): string {
  const columns = Math.min(2, charts.length);
  const [cell, row] = [WIDTH + 20, HEIGHT + 40];
  const [width, height] = [columns * cell, Math.ceil(charts.length / Math.max(1, columns)) * row + 30];
  const note =
    matching === proteins
      ? `${count(proteins)} proteins`
      : `${count(matching)} of ${count(proteins)} proteins; all in grey, each by its own highest bar`;
  const image = svg(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      "font-family": FONT,
      "font-size": 13,
      fill: TEXT,
    },
    svg("rect", { width, height, fill: "#ffffff" }),
    svg("text", { x: 10, y: 20 }, note),
  );
  charts.forEach((chart, place) => {
    const [x, y] = [(place % columns) * cell + 10, Math.floor(place / columns) * row + 34];
    const title = svg(
      "text",
      { x: 10, y: 12, "font-weight": "bold" },
      printable(chart.unit ? `${chart.label} (${chart.unit})` : chart.label),
    );
    const marks = svg("g", { transform: "translate(0 18)" }, ...drawHistogram(chart.data, chart.range, chart));
    for (const mark of marks.querySelectorAll("[class]")) {
      for (const [name, value] of Object.entries(STYLE[mark.getAttribute("class") ?? ""] ?? {}))
        if (!mark.hasAttribute(name)) mark.setAttribute(name, value);
      mark.removeAttribute("class");
    }
    image.append(svg("g", { transform: `translate(${x} ${y})` }, title, marks));
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(image)}\n`;
}
