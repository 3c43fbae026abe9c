import { ticks } from "../format.ts";

/** Return round numbers of residues for the ticks of an axis, about `wanted` of them, beginning with the first residue. */
export function residueTicks(length: number, wanted: number): number[] {
  return [
    ...new Set(
      ticks(0, length, wanted)
        .filter(Number.isInteger)
        .map((tick) => Math.max(1, tick)),
    ),
  ];
}
