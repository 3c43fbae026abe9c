// From what the server answered to what is drawn: colours, order and size of points.
import type { Layer } from "./canvas.ts";
import { type Coloring, drawingOrder } from "./coloring.ts";
import type { Drawn } from "./drawn.ts";
import { NO_VALUE } from "./palette.ts";
import { blended, packed } from "./raster.ts";

const MANY = 20_000; // points from which they are more transparent

/** Return the layer of what matches, coloured. */
export function colored(drawn: Drawn, coloring: Coloring, width: number, height: number): Layer {
  if (drawn.kind === "cells") return { ...drawn, colors: cellColors(drawn, coloring), opacity: 1 };
  // Of choices, values that few points have are drawn over those that many have.
  const order = coloring.column.type === "number" ? null : drawingOrder(drawn.values);
  const colors = new Uint32Array(drawn.values.length);
  for (let i = 0; i < colors.length; i++) colors[i] = coloring.color(drawn.values[order ? order[i]! : i]!);
  const [x, y] = [arranged(drawn.x, order), arranged(drawn.y, order)];
  return { kind: "dots", x, y, colors, ...dotSize(drawn.proteins, width, height, 0.85) };
}

/** Return the colours of cells: of numbers that of their mean, of choices that of the most frequent value, the greyer the
 * smaller its share, so that a bare majority does not look like all of a cell. */
export function cellColors(cells: Extract<Drawn, { kind: "cells" }>, coloring: Coloring): Uint32Array {
  const own = Uint32Array.from(cells.values, (value) => coloring.color(value));
  if (coloring.column.type === "number") return own;
  const grey = packed(NO_VALUE);
  return own.map((color, cell) => blended(grey, color, Math.round(256 * cells.shares[cell]!)));
}

/** Return the layer of all proteins behind those that match, in one faint colour. */
export function faint(drawn: Drawn, color: number, width: number, height: number): Layer {
  if (drawn.kind === "cells") return { ...drawn, colors: color, opacity: 0.5 };
  return { kind: "dots", x: drawn.x, y: drawn.y, colors: color, ...dotSize(drawn.proteins, width, height, 0.55) };
}

/** Return how large and opaque points are: the fewer there are on a canvas, the larger. */
function dotSize(points: number, width: number, height: number, opacity: number): { radius: number; opacity: number } {
  const room = Math.sqrt((width * height) / Math.max(1, points)); // pixels between neighbours
  return { radius: Math.max(0.9, Math.min(4.5, room / 5)), opacity: points > MANY ? opacity * 0.75 : opacity };
}

function arranged(values: Float32Array, order: Uint32Array | null): Float32Array {
  return order ? Float32Array.from(order, (place) => values[place]!) : values;
}
