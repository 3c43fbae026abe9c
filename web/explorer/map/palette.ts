// Colours of categories: those of Okabe & Ito (2008), which people with any colour blindness can distinguish. Of numbers:
// cividis (Nunez et al. 2018), which they read in the same order. Of pLDDT: plddt.ts.
import { classOf } from "../plddt.ts";
import { packed } from "./raster.ts";

export const NO_VALUE = "#8a8f96";

/** Of categories, in this order. */
export const CATEGORIES: readonly string[] = [
  "#0072b2",
  "#e69f00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#d55e00",
  "#f0e442",
  "#7a5195",
  "#a0522d",
];
/** Of what is known and what is new. */
export const KNOWN = "#0072b2";
export const NEW = "#d55e00";

const CIVIDIS = [
  "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838",
]; // biome-ignore format: a ramp

/** Return the CSS colour of a pLDDT (0 to 100). */
export function plddtColor(value: number): string {
  return classOf(value)?.color ?? NO_VALUE; // NaN is in no class
}

/** Return the CSS colour of a fraction (0 to 1) of a range of numbers. */
export function rampColor(fraction: number): string {
  if (Number.isNaN(fraction)) return NO_VALUE;
  const place = Math.max(0, Math.min(1, fraction)) * (CIVIDIS.length - 1);
  const from = Math.min(CIVIDIS.length - 2, Math.floor(place));
  const [a, b] = [CIVIDIS[from]!, CIVIDIS[from + 1]!];
  const mixed = [1, 3, 5].map((at) => {
    const [low, high] = [Number.parseInt(a.slice(at, at + 2), 16), Number.parseInt(b.slice(at, at + 2), 16)];
    return Math.round(low + (high - low) * (place - from))
      .toString(16)
      .padStart(2, "0");
  });
  return `#${mixed.join("")}`;
}

/** Return a table of packed colours of `size` steps from the lowest to the highest value. */
export function table(color: (fraction: number) => string, size = 256): Uint32Array {
  return Uint32Array.from({ length: size }, (_, step) => packed(color(step / (size - 1))));
}
