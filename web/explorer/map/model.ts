// What the explorer's routes answer; docs/api.md describes them.
import type { Window } from "./viewport.ts";

/** Codes of choices that are not among the values of a column: another value, and none. */
export const OTHER = 254;
export const NONE = 255;

export interface Column {
  readonly name: string;
  readonly type: "number" | "choice" | "flag";
  readonly label: string;
  readonly meaning: string | null;
  readonly unit: string | null;
  /** Whether its histogram is among those shown first. */
  readonly first: boolean;
  /** Edges of the bins of a number. */
  readonly edges: readonly number[] | null;
  /** Values of the codes 0, 1, ... of a choice or flag. */
  readonly values: readonly string[] | null;
  /** All proteins by bin or code; `others` have a value that is not listed, `nulls` none. */
  readonly counts: readonly number[];
  readonly others: number;
  readonly nulls: number;
}

export interface MapInfo {
  readonly name: string;
  readonly label: string;
  readonly x_label: string;
  readonly y_label: string;
  readonly proteins: number;
  readonly x: readonly [number, number];
  readonly y: readonly [number, number];
}

export interface Explored {
  readonly proteins: number;
  readonly columns: readonly Column[];
  readonly maps: readonly MapInfo[];
  /** Columns by which the table can be sorted. */
  readonly sorts: readonly string[];
  /** Who may type conditions in SQL. */
  readonly where: "public" | "token" | "off";
}

export interface Counts {
  readonly matching: readonly number[];
  readonly others: number;
  readonly nulls: number;
}

export interface Summary {
  readonly proteins: number;
  readonly matching: number;
  readonly sql: string;
  readonly columns: Readonly<Record<string, Counts>>;
}

/** A row of the table, and the protein of a point. */
export interface Protein {
  readonly key: number;
  readonly id: string;
  readonly source: string;
  readonly description: string | null;
  readonly structure_id: string;
  readonly length: number;
  readonly mean_plddt: number | null;
  readonly ptm: number | null;
  readonly tm_query: number | null;
  readonly nearest_structure: string | null;
  readonly identity_max: number | null;
  readonly [column: string]: unknown;
}

export interface Page {
  readonly items: readonly Protein[];
  readonly next: string | null;
}

/** Return the window of a whole map. */
export function extent(map: MapInfo): Window {
  return { x0: map.x[0], x1: map.x[1], y0: map.y[0], y1: map.y[1] };
}

/** Return the proteins of each code of a choice or flag, by code up to NONE. */
export function byCode(counts: Pick<Column, "counts" | "others" | "nulls">): number[] {
  const found = new Array<number>(256).fill(0);
  counts.counts.forEach((value, code) => {
    found[code] = value;
  });
  found[OTHER] = counts.others;
  found[NONE] = counts.nulls;
  return found;
}
