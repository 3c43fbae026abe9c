// How a column colours the map: the colour of each value or code, the order of drawing, and the legend.
import { valueText } from "../format.ts";
import { classText, PLDDT_CLASSES } from "../plddt.ts";
import { type Column, NONE, OTHER } from "./model.ts";
import { CATEGORIES, KNOWN, NEW, NO_VALUE, plddtColor, rampColor, table } from "./palette.ts";
import { packed } from "./raster.ts";

export interface LegendEntry {
  readonly label: string;
  readonly color: string;
  /** Column and value of the filter `choice`, null for none, that a click selects; undefined where none is. */
  readonly choice?: readonly [column: string, value: string | null] | undefined;
  readonly code?: number;
}

export interface Coloring {
  readonly column: Column;
  readonly legend: readonly LegendEntry[];
  /** Ends of the ramp of a number; null where the legend has entries. */
  readonly ramp: readonly [number, number] | null;
  /** Packed colour of a value or code. */
  color(value: number): number;
}

const PLDDT = "mean_plddt";
const CLASSES = "confidence"; // column of the classes of pLDDT
const STEPS = 256;

// Colours of values that have one everywhere. Of what is known and new: new is the one warm colour.
const FIXED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  known: {
    known: KNOWN,
    novel: NEW,
    "not confident": "#a9b8c6",
    demonstration: "#cc79a7",
    "not searched": NO_VALUE,
  },
  confidence: {
    "very high": PLDDT_CLASSES[0]!.color,
    confident: PLDDT_CLASSES[1]!.color,
    low: PLDDT_CLASSES[2]!.color,
    "very low": PLDDT_CLASSES[3]!.color,
  },
};

/** Return how a column colours. `counts` are the proteins of each code, by which common values get distinct colours. */
export function coloringOf(column: Column, counts: readonly number[] = []): Coloring {
  return column.type === "number" ? ofNumber(column) : ofCodes(column, counts);
}

function ofNumber(column: Column): Coloring {
  if (column.name === PLDDT) {
    const colors = PLDDT_CLASSES.map((one) => packed(one.color));
    const none = packed(NO_VALUE);
    const color = (value: number) => {
      if (Number.isNaN(value)) return none;
      return colors[PLDDT_CLASSES.findIndex((one) => value > one.above)] ?? none;
    };
    const legend = PLDDT_CLASSES.map((each) => ({
      label: classText(each),
      color: each.color,
      choice: [CLASSES, each.value] as const,
    }));
    return { column, legend, ramp: null, color };
  }
  const [low, high] = [column.edges?.[0] ?? 0, column.edges?.at(-1) ?? 1];
  const colors = table(rampColor, STEPS);
  const none = packed(NO_VALUE);
  const color = (value: number) => {
    if (Number.isNaN(value)) return none;
    return colors[Math.max(0, Math.min(STEPS - 1, Math.floor(((value - low) / (high - low || 1)) * STEPS)))]!;
  };
  return { column, legend: [], ramp: [low, high], color };
}

function ofCodes(column: Column, counts: readonly number[]): Coloring {
  const values = column.values ?? [];
  const byCount = values.map((_, code) => code).sort((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0) || a - b);
  const fixed = FIXED[column.name];
  const colors = new Map<number, string>();
  values.forEach((value, code) => {
    const color = fixed ? fixed[value] : CATEGORIES[byCount.indexOf(code)];
    if (color) colors.set(code, color);
  });
  const listed = [...colors].map(([code, color]) => ({
    label: values[code]!,
    color,
    choice: [column.name, values[code]!] as const,
    code,
  }));
  const shown: LegendEntry[] = fixed
    ? listed
    : listed.sort((a, b) => byCount.indexOf(a.code) - byCount.indexOf(b.code));
  const legend = shown.filter((entry) => !counts.length || (counts[entry.code!] ?? 0) > 0);
  const others = (counts[OTHER] ?? 0) > 0 || values.length > colors.size;
  if (others) legend.push({ label: "others", color: NO_VALUE, code: OTHER });
  if ((counts[NONE] ?? 0) > 0)
    legend.push({ label: "no value", color: NO_VALUE, choice: [column.name, null], code: NONE });
  const codes = Uint32Array.from({ length: 256 }, (_, code) => packed(colors.get(code) ?? NO_VALUE));
  return { column, legend, ramp: null, color: (value) => codes[value] ?? codes[NONE]! };
}

/** Return the CSS colour of a value of a histogram, where its bars are coloured. */
export function barColor(column: Column): ((value: number) => string) | undefined {
  return column.name === PLDDT ? plddtColor : undefined;
}

/** Return the places of points in the order in which they are drawn: values that many points have first. */
export function drawingOrder(codes: ArrayLike<number>): Uint32Array {
  const counts = new Uint32Array(256);
  for (let i = 0; i < codes.length; i++) counts[codes[i]!]!++;
  const byCount = Array.from(counts.keys()).sort((a, b) => counts[b]! - counts[a]! || a - b);
  const next = new Uint32Array(256);
  let sum = 0;
  for (const code of byCount) {
    next[code] = sum;
    sum += counts[code]!;
  }
  const order = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) order[next[codes[i]!]!++] = i;
  return order;
}

/** Return an entry's text. */
export function legendText(entry: LegendEntry): string {
  return valueText(entry.label);
}
