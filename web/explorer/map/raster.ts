// Points and densities drawn into pixels, by plain arithmetic: 100,000 points take some 10 ms, on any machine, with or
// without a graphics card, and the same pixels are what a saved figure has. Pixels and colours are 0xAABBGGRR, the order
// of ImageData on little-endian machines, which are all that run browsers.
import type { Window } from "./viewport.ts";

export interface Raster {
  readonly width: number;
  readonly height: number;
  /** width x height, from the upper left, opaque. */
  readonly pixels: Uint32Array;
}

/** Return the colour of a CSS colour #rrggbb. */
export function packed(hex: string): number {
  const value = Number.parseInt(hex.slice(1), 16);
  return (0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

/** Return `under` covered by `over` with opacity alpha/256. */
export function blended(under: number, over: number, alpha: number): number {
  const rest = 256 - alpha;
  const redBlue = ((Math.imul(under & 0xff00ff, rest) + Math.imul(over & 0xff00ff, alpha)) >>> 8) & 0xff00ff;
  const green = ((Math.imul((under >>> 8) & 0xff, rest) + Math.imul((over >>> 8) & 0xff, alpha)) & 0xff00) >>> 0;
  return (0xff000000 | redBlue | green) >>> 0;
}

/** A disc: the opacity (0 to 256) of each pixel of a square around its centre. */
function disc(radius: number, opacity: number): { reach: number; alphas: Int32Array } {
  const reach = Math.ceil(radius);
  const side = 2 * reach + 1;
  const alphas = new Int32Array(side * side);
  for (let y = -reach; y <= reach; y++)
    for (let x = -reach; x <= reach; x++) {
      const inside = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(x, y)));
      alphas[(y + reach) * side + x + reach] = Math.round(inside * opacity * 256);
    }
  return { reach, alphas };
}

export interface Dots {
  readonly x: Float32Array;
  readonly y: Float32Array;
  /** Colour of each point, or one of all. */
  readonly colors: Uint32Array | number;
  /** Pixels. */
  readonly radius: number;
  /** 0 to 1. */
  readonly opacity: number;
}

/** Draw points in their order, later ones over earlier ones. */
export function drawDots(raster: Raster, window: Window, dots: Dots): void {
  const { width, height, pixels } = raster;
  const { reach, alphas } = disc(dots.radius, dots.opacity);
  const side = 2 * reach + 1;
  const scaleX = width / (window.x1 - window.x0);
  const scaleY = height / (window.y1 - window.y0);
  for (let i = 0; i < dots.x.length; i++) {
    const px = Math.round((dots.x[i]! - window.x0) * scaleX - 0.5);
    const py = Math.round((window.y1 - dots.y[i]!) * scaleY - 0.5);
    if (!(px >= -reach && px < width + reach && py >= -reach && py < height + reach)) continue;
    const color = typeof dots.colors === "number" ? dots.colors : dots.colors[i]!;
    const left = Math.max(0, px - reach);
    const right = Math.min(width - 1, px + reach);
    for (let y = Math.max(0, py - reach); y <= Math.min(height - 1, py + reach); y++) {
      const row = (y - py + reach) * side + reach - px;
      for (let x = left; x <= right; x++) {
        const alpha = alphas[row + x]!;
        if (alpha) pixels[y * width + x] = blended(pixels[y * width + x]!, color, alpha);
      }
    }
  }
}

export interface Cells {
  readonly columns: number;
  readonly rows: number;
  /** The window that the cells divide. */
  readonly window: Window;
  /** Points in each cell, row by row from the lowest y. */
  readonly counts: ArrayLike<number>;
  /** Colour of each cell, or one of all. */
  readonly colors: Uint32Array | number;
}

/** Draw cells, the more opaque the more points they have, by the logarithm. */
export function drawCells(raster: Raster, window: Window, cells: Cells, opacity = 1): void {
  const { width, height, pixels } = raster;
  let most = 1;
  for (let i = 0; i < cells.counts.length; i++) most = Math.max(most, cells.counts[i]!);
  const full = Math.log1p(most);
  const column = new Int32Array(width);
  const own = cells.window;
  for (let px = 0; px < width; px++) {
    const x = window.x0 + ((px + 0.5) / width) * (window.x1 - window.x0);
    column[px] = Math.floor(((x - own.x0) / (own.x1 - own.x0)) * cells.columns);
  }
  for (let py = 0; py < height; py++) {
    const y = window.y1 - ((py + 0.5) / height) * (window.y1 - window.y0);
    const row = Math.floor(((y - own.y0) / (own.y1 - own.y0)) * cells.rows);
    if (row < 0 || row >= cells.rows) continue;
    for (let px = 0; px < width; px++) {
      const place = column[px]!;
      if (place < 0 || place >= cells.columns) continue;
      const cell = row * cells.columns + place;
      const points = cells.counts[cell]!;
      if (!points) continue;
      const color = typeof cells.colors === "number" ? cells.colors : cells.colors[cell]!;
      const alpha = Math.round((0.3 + 0.7 * (Math.log1p(points) / full)) * opacity * 256);
      pixels[py * width + px] = blended(pixels[py * width + px]!, color, alpha);
    }
  }
}

/** Return the index of the point nearest to a pixel, at most `reach` pixels away, or -1. */
export function nearest(
  x: Float32Array,
  y: Float32Array,
  window: Window,
  size: Raster | { width: number; height: number },
  px: number,
  py: number,
  reach: number,
): number {
  const scaleX = size.width / (window.x1 - window.x0);
  const scaleY = size.height / (window.y1 - window.y0);
  let best = -1;
  let least = reach * reach;
  for (let i = 0; i < x.length; i++) {
    const dx = (x[i]! - window.x0) * scaleX - px;
    const dy = (window.y1 - y[i]!) * scaleY - py;
    const distance = dx * dx + dy * dy;
    if (distance <= least) {
      least = distance;
      best = i;
    }
  }
  return best;
}
