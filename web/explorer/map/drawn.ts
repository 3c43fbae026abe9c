// What the server answers about a window of a map: points, or the density of cells. docs/api.md has the format.
import type { Api } from "../api.ts";
import type { Filter } from "../state.ts";
import type { Column, MapInfo } from "./model.ts";
import type { Window } from "./viewport.ts";

interface Common {
  readonly window: Window;
  /** Proteins in the window that meet the filter. */
  readonly proteins: number;
  /** Value of a number, or code of a choice or flag, of each point or cell; NaN for none. */
  readonly values: Float32Array;
}

export type Drawn =
  | (Common & {
      readonly kind: "points";
      readonly x: Float32Array;
      readonly y: Float32Array;
      readonly keys: Uint32Array;
    })
  | (Common & {
      readonly kind: "cells";
      readonly columns: number;
      readonly rows: number;
      readonly counts: Uint32Array;
      /** Of each cell the fraction of its proteins that have a number, or its most frequent value. */
      readonly shares: Float32Array;
    });

interface Header {
  readonly kind: "points" | "density";
  readonly matching: number;
  readonly window: readonly [x0: number, x1: number, y0: number, y1: number];
  readonly width: number;
  readonly height: number;
  readonly arrays: readonly { readonly name: string; readonly type: string; readonly length: number }[];
}

const MAGIC = "FAM1";
const CELL = 3; // CSS pixels, at least
const MOST_CELLS = 1 << 18;

/** Ask for what is to be drawn in a window, on a canvas of `size` CSS pixels. */
export async function loadDrawn(
  api: Api,
  map: MapInfo,
  column: Column,
  window: Window,
  size: { readonly width: number; readonly height: number },
  filter: Filter,
  signal: AbortSignal,
): Promise<Drawn> {
  const cell = Math.max(CELL, Math.sqrt((size.width * size.height) / MOST_CELLS));
  const cells = {
    width: Math.max(1, Math.floor(size.width / cell)),
    height: Math.max(1, Math.floor(size.height / cell)),
  };
  const { x0, x1, y0, y1 } = window;
  const query = { map: map.name, x0, x1, y0, y1, ...cells, color: column.name, ...filter };
  return parseDrawn(await api.bytes("v1/explore/map", { query, signal }));
}

/** Return what a body holds. Raise an error for one that is not whole. */
export function parseDrawn(body: ArrayBuffer): Drawn {
  if (text(body, 0, 4) !== MAGIC) throw new Error("the map is in a format that this page does not know: load it again");
  const length = new DataView(body).getUint32(4, true);
  const header = JSON.parse(text(body, 8, length)) as Header;
  const arrays = new Map<string, ArrayBuffer>();
  let place = 8 + length;
  for (const { name, length: items } of header.arrays) {
    if (place + 4 * items > body.byteLength) throw new Error("the map broke off: try again");
    arrays.set(name, body.slice(place, place + 4 * items));
    place += 4 * items;
  }
  const floats = (name: string) => new Float32Array(arrays.get(name)!);
  const integers = (name: string) => new Uint32Array(arrays.get(name)!);
  const [x0, x1, y0, y1] = header.window;
  const common = { window: { x0, x1, y0, y1 }, proteins: header.matching, values: floats("color") };
  if (header.kind === "points")
    return { ...common, kind: "points", x: floats("x"), y: floats("y"), keys: integers("key") };
  const size = { columns: header.width, rows: header.height };
  return { ...common, ...size, kind: "cells", counts: integers("count"), shares: floats("share") };
}

function text(body: ArrayBuffer, start: number, length: number): string {
  return new TextDecoder().decode(new Uint8Array(body, start, length));
}
