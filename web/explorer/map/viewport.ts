// Which window of the map's coordinates a canvas shows. x grows to the right, y upwards.

export interface Window {
  readonly x0: number;
  readonly x1: number;
  readonly y0: number;
  readonly y1: number;
}

export type Point = readonly [x: number, y: number];

/** Return a window moved by fractions of its width and height. */
export function panned(window: Window, right: number, up: number): Window {
  const dx = (window.x1 - window.x0) * right;
  const dy = (window.y1 - window.y0) * up;
  return { x0: window.x0 + dx, x1: window.x1 + dx, y0: window.y0 + dy, y1: window.y1 + dy };
}

/** Return a window magnified by `factor`, in which the point at fractions (fx, fy) from the lower left stays in place. */
export function zoomed(window: Window, factor: number, fx = 0.5, fy = 0.5): Window {
  const x = window.x0 + (window.x1 - window.x0) * fx;
  const y = window.y0 + (window.y1 - window.y0) * fy;
  return {
    x0: x + (window.x0 - x) / factor,
    x1: x + (window.x1 - x) / factor,
    y0: y + (window.y0 - y) / factor,
    y1: y + (window.y1 - y) / factor,
  };
}

/** Return a window that is a little larger, so that nothing lies on its edge. */
export function padded(window: Window, by = 0.04): Window {
  const dx = (window.x1 - window.x0) * by || 0.5;
  const dy = (window.y1 - window.y0) * by || 0.5;
  return { x0: window.x0 - dx, x1: window.x1 + dx, y0: window.y0 - dy, y1: window.y1 + dy };
}

/** Return the least window around `window` with a unit of x as wide as a unit of y is high, on a canvas. */
export function squared(window: Window, width: number, height: number): Window {
  const unit = Math.max((window.x1 - window.x0) / width, (window.y1 - window.y0) / height);
  const x = (window.x0 + window.x1) / 2;
  const y = (window.y0 + window.y1) / 2;
  return {
    x0: x - (unit * width) / 2,
    x1: x + (unit * width) / 2,
    y0: y - (unit * height) / 2,
    y1: y + (unit * height) / 2,
  };
}

/** Return where a point lies on a canvas, in pixels from its upper left corner. */
export function toPixel(window: Window, width: number, height: number, [x, y]: Point): Point {
  return [((x - window.x0) / (window.x1 - window.x0)) * width, ((window.y1 - y) / (window.y1 - window.y0)) * height];
}

/** Return the point that lies under a pixel of a canvas. */
export function fromPixel(window: Window, width: number, height: number, [px, py]: Point): Point {
  return [window.x0 + (px / width) * (window.x1 - window.x0), window.y1 - (py / height) * (window.y1 - window.y0)];
}

/** Return the part of a window that is inside another one. */
export function within(window: Window, outer: Window): Window {
  const inside = (value: number, low: number, high: number) => Math.max(low, Math.min(high, value));
  return {
    x0: inside(window.x0, outer.x0, outer.x1),
    x1: inside(window.x1, outer.x0, outer.x1),
    y0: inside(window.y0, outer.y0, outer.y1),
    y1: inside(window.y1, outer.y0, outer.y1),
  };
}

export function contains(outer: Window, inner: Window): boolean {
  return outer.x0 <= inner.x0 && outer.x1 >= inner.x1 && outer.y0 <= inner.y0 && outer.y1 >= inner.y1;
}

/** Return a window as a parameter of the URL, with digits enough for a pixel of a large screen. */
export function formatWindow(window: Window): string {
  const span = Math.min(window.x1 - window.x0, window.y1 - window.y0);
  const digits = Math.max(0, Math.min(8, 4 - Math.floor(Math.log10(span || 1))));
  return [window.x0, window.x1, window.y0, window.y1].map((value) => Number(value.toFixed(digits))).join(",");
}

/** Return the window of a parameter, or null for a text that is not one. */
export function parseWindow(text: string | undefined): Window | null {
  const [x0, x1, y0, y1, ...more] = (text ?? "").split(",").map(Number);
  if (more.length || ![x0, x1, y0, y1].every((value) => Number.isFinite(value))) return null;
  return x0! < x1! && y0! < y1! ? { x0: x0!, x1: x1!, y0: y0!, y1: y1! } : null;
}

/** Return a line of at most `most` of the points, by leaving out those that change it least (Visvalingam & Whyatt 1993). */
export function simplified(line: readonly Point[], most: number): Point[] {
  const kept = line.map(([x, y]) => [x, y] as Point);
  while (kept.length > most) {
    let least = Infinity;
    let place = 1;
    for (let i = 1; i < kept.length - 1; i++) {
      const area = triangle(kept[i - 1]!, kept[i]!, kept[i + 1]!);
      if (area < least) [least, place] = [area, i];
    }
    kept.splice(place, 1);
  }
  return kept;
}

function triangle([ax, ay]: Point, [bx, by]: Point, [cx, cy]: Point): number {
  return Math.abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2;
}
