import assert from "node:assert/strict";
import { test } from "node:test";
import { coloringOf } from "../map/coloring.ts";
import { cellColors } from "../map/layers.ts";
import { NO_VALUE, plddtColor, rampColor } from "../map/palette.ts";
import { blended, drawCells, drawDots, nearest, packed, type Raster } from "../map/raster.ts";
import { formatWindow, fromPixel, parseWindow, simplified, squared, toPixel, zoomed } from "../map/viewport.ts";
import { PLDDT_CLASSES } from "../plddt.ts";

const WHITE = 0xffffffff;
const unit = { x0: 0, x1: 1, y0: 0, y1: 1 };
const blank = (width: number, height: number): Raster => ({
  width,
  height,
  pixels: new Uint32Array(width * height).fill(WHITE),
});

test("a colour is packed as ImageData has it", () => {
  const bytes = new Uint8Array(Uint32Array.of(packed("#12ab34")).buffer);
  assert.deepEqual([...bytes], [0x12, 0xab, 0x34, 0xff]);
});

test("blending agrees with the formula", () => {
  for (const [under, over] of [
    ["#000000", "#ffffff"],
    ["#12ab34", "#fe0280"],
  ] as const)
    for (const alpha of [0, 1, 100, 256]) {
      const bytes = (hex: string) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
      const expected = bytes(under).map((low, i) => Math.floor((low * (256 - alpha) + bytes(over)[i]! * alpha) / 256));
      const found = new Uint8Array(Uint32Array.of(blended(packed(under), packed(over), alpha)).buffer);
      assert.deepEqual([...found.slice(0, 3)], expected, `${under} ${over} ${alpha}`);
    }
});

test("a point is drawn where it lies, y upwards, and clipped", () => {
  const raster = blank(10, 10);
  const dots = {
    x: Float32Array.of(0.05, 5, Number.NaN, 0.999),
    y: Float32Array.of(0.95, 0.5, 0.5, 0.5),
    colors: packed("#ff0000"),
    radius: 0.5,
    opacity: 1,
  };
  drawDots(raster, unit, dots);
  const drawn = [...raster.pixels.entries()].filter(([, pixel]) => pixel !== WHITE).map(([place]) => place);
  assert.deepEqual(drawn, [0, 59]);
});

test("cells are drawn over their window, the lowest row at the bottom", () => {
  const raster = blank(4, 4);
  drawCells(raster, unit, { columns: 2, rows: 2, window: unit, counts: [9, 0, 0, 0], colors: packed("#000000") });
  const drawn = [...raster.pixels.entries()].filter(([, pixel]) => pixel !== WHITE).map(([place]) => place);
  assert.deepEqual(drawn, [8, 9, 12, 13]);
});

test("a cell of a choice is the greyer the more it is mixed, one of a number is not", () => {
  const cells = { values: Float32Array.of(1, 1, 0, Number.NaN), shares: Float32Array.of(1, 0.5, 0.25, 0) };
  const size = { window: unit, proteins: 9, columns: 2, rows: 2, counts: Uint32Array.of(3, 2, 4, 0) };
  const drawn = { ...size, ...cells, kind: "cells" as const };
  const column = { name: "a", label: "A", meaning: null, unit: null, first: false, counts: [], others: 0, nulls: 0 };
  const choice = coloringOf({ ...column, type: "choice", edges: null, values: ["x", "y"] });
  const [x, y, grey] = [choice.color(0), choice.color(1), packed(NO_VALUE)];
  assert.deepEqual([...cellColors(drawn, choice)], [y, blended(grey, y, 128), blended(grey, x, 64), grey]);
  const number = coloringOf({ ...column, type: "number", edges: [0, 1], values: null });
  assert.deepEqual(
    [...cellColors(drawn, number)],
    [...cells.values].map((value) => number.color(value)),
  );
});

test("the nearest point within reach is found", () => {
  const [x, y] = [Float32Array.of(0.1, 0.5, 0.9), Float32Array.of(0.1, 0.5, 0.9)];
  assert.equal(nearest(x, y, unit, { width: 100, height: 100 }, 52, 49, 5), 1);
  assert.equal(nearest(x, y, unit, { width: 100, height: 100 }, 70, 50, 5), -1);
});

test("a pixel and its point agree, and zooming keeps the point under the pointer", () => {
  const window = { x0: -3, x1: 5, y0: 10, y1: 30 };
  const point = fromPixel(window, 200, 100, [50, 25]);
  assert.deepEqual(toPixel(window, 200, 100, point), [50, 25]);
  assert.deepEqual(fromPixel(zoomed(window, 2, 0.25, 0.75), 200, 100, [50, 25]), point);
  const square = squared(window, 200, 100);
  assert.equal((square.x1 - square.x0) / 200, (square.y1 - square.y0) / 100);
});

test("windows survive the URL, and other texts are none", () => {
  const window = { x0: -1.25, x1: 2.5, y0: 0, y1: 1000 };
  assert.deepEqual(parseWindow(formatWindow(window)), window);
  for (const text of [undefined, "", "1,2,3", "1,2,3,4,5", "2,1,0,1", "a,b,c,d", "0,Infinity,0,1"])
    assert.equal(parseWindow(text), null, String(text));
});

test("a simplified line keeps its corners", () => {
  const line = Array.from({ length: 50 }, (_, i) => [i, 0] as const);
  assert.deepEqual(simplified([...line, [49, 9]], 3), [
    [0, 0],
    [49, 0],
    [49, 9],
  ]);
});

test("colours of pLDDT are the classes'", () => {
  assert.deepEqual(
    [95, 90, 70.1, 50, 3].map(plddtColor),
    [0, 1, 1, 3, 3].map((place) => PLDDT_CLASSES[place]!.color),
  );
  assert.equal(rampColor(0), "#00224e");
  assert.equal(rampColor(1), "#fee838");
});
