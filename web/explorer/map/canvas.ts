// The map's drawing: points or cells on a canvas; axes, the selected region and the point under the pointer above it.
import { svg } from "../dom.ts";
import { ticks } from "../format.ts";
import { type Cells, type Dots, drawCells, drawDots, packed, type Raster } from "./raster.ts";
import { type Point, toPixel, type Window } from "./viewport.ts";

/** What is drawn: points, or cells where there are too many of them. */
export type Layer = ({ readonly kind: "dots" } & Dots) | ({ readonly kind: "cells"; readonly opacity: number } & Cells);

export interface Axes {
  readonly x: string;
  readonly y: string;
}

export interface Scene {
  readonly window: Window;
  readonly layers: readonly Layer[];
  readonly axes: Axes | null;
  /** Corners of the selected region. */
  readonly region: readonly Point[];
  readonly highlight: Point | null;
}

const MAX_RATIO = 2; // device pixels of a CSS pixel

export class MapCanvas {
  readonly element = document.createElement("canvas");
  readonly overlay = svg("svg", { class: "overlay", "aria-hidden": "true" });
  width = 1; // CSS pixels
  height = 1;

  /** Adapt to the size of the parent. Return whether it changed. */
  resize(): boolean {
    const box = this.element.parentElement?.getBoundingClientRect();
    const width = Math.max(1, Math.round(box?.width ?? 1));
    const height = Math.max(1, Math.round(box?.height ?? 1));
    if (width === this.width && height === this.height) return false;
    [this.width, this.height] = [width, height];
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    return true;
  }

  draw(scene: Scene): void {
    const ratio = Math.min(devicePixelRatio || 1, MAX_RATIO);
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.element.width !== width || this.element.height !== height)
      [this.element.width, this.element.height] = [width, height];
    const drawn = this.element.getContext("2d");
    drawn?.putImageData(render(scene, width, height, ratio, this.color("--map-back")), 0, 0);
    this.drawOverlay(scene);
  }

  /** Draw only axes, region and highlight. */
  drawOverlay(scene: Scene): void {
    this.overlay.replaceChildren(
      ...(scene.axes ? axes(scene.window, this.width, this.height, scene.axes) : []),
      ...region(scene, this.width, this.height),
    );
  }

  /** Return a colour of the theme. */
  color(name: string): number {
    const color = getComputedStyle(this.element).getPropertyValue(name).trim();
    return packed(/^#[0-9a-f]{6}$/i.test(color) ? color : "#ffffff");
  }
}

/** Return the pixels of a scene. `ratio` is the number of pixels of a CSS pixel. */
export function render(scene: Scene, width: number, height: number, ratio: number, background: number): ImageData {
  const image = new ImageData(width, height);
  const raster: Raster = { width, height, pixels: new Uint32Array(image.data.buffer) };
  raster.pixels.fill(background);
  for (const layer of scene.layers) {
    if (layer.kind === "dots") drawDots(raster, scene.window, { ...layer, radius: layer.radius * ratio });
    else drawCells(raster, scene.window, layer, layer.opacity);
  }
  return image;
}

function axes(window: Window, width: number, height: number, labels: Axes): SVGElement[] {
  const found: SVGElement[] = [];
  for (const x of ticks(window.x0, window.x1, Math.max(2, width / 110))) {
    const [px] = toPixel(window, width, height, [x, 0]);
    if (px < 24 || px > width - 40) continue;
    found.push(svg("line", { class: "grid", x1: px, x2: px, y1: 0, y2: height }));
    found.push(svg("text", { class: "tick", x: px, y: height - 20, "text-anchor": "middle" }, tickText(x)));
  }
  for (const y of ticks(window.y0, window.y1, Math.max(2, height / 80))) {
    const [, py] = toPixel(window, width, height, [0, y]);
    if (py < 24 || py > height - 40) continue;
    found.push(svg("line", { class: "grid", x1: 0, x2: width, y1: py, y2: py }));
    found.push(svg("text", { class: "tick", x: 6, y: py - 3 }, tickText(y)));
  }
  found.push(svg("text", { class: "name", x: width / 2, y: height - 6, "text-anchor": "middle" }, labels.x));
  found.push(svg("text", { class: "name", x: 6, y: 15 }, labels.y));
  return found;
}

function tickText(value: number): string {
  return Math.abs(value) >= 10_000 ? value.toExponential() : String(value);
}

function region(scene: Scene, width: number, height: number): SVGElement[] {
  const found: SVGElement[] = [];
  const place = (point: Point) => toPixel(scene.window, width, height, point);
  const corners = scene.region;
  if (corners.length === 2) {
    const [[x0, y0], [x1, y1]] = [place(corners[0]!), place(corners[1]!)];
    const box = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
    found.push(svg("rect", { class: "region", ...box }));
  } else if (corners.length > 2) {
    found.push(svg("polygon", { class: "region", points: corners.map((corner) => place(corner).join(",")).join(" ") }));
  }
  if (scene.highlight) {
    const [cx, cy] = place(scene.highlight);
    found.push(
      svg("circle", { class: "highlight-back", cx, cy, r: 8 }),
      svg("circle", { class: "highlight", cx, cy, r: 8 }),
    );
  }
  return found;
}
