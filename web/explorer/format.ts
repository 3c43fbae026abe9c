// Numbers and texts as the page shows them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const ABSENT = "–";

/** Return a whole number with separators of thousands. */
export function count(value: number): string {
  return WHOLE.format(value);
}

/** Return a large number in few characters: 950, 12 k, 10 M. */
export function brief(value: number): string {
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const)
    if (value >= size) return `${Number((value / size).toPrecision(value / size >= 100 ? 3 : 2))} ${unit}`;
  return String(Number(value.toPrecision(3)));
}

/** Return a number with digits that suit a range of values: whole numbers of wide ranges, decimals of narrow ones. */
export function digitsFor(range: number): number {
  return Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(range || 1))));
}

/** Return a number with a number of decimals, or a dash where there is none. */
export function decimals(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined || !Number.isFinite(value) ? ABSENT : value.toFixed(digits);
}

/** Return a text with escapes in place of characters that cannot be seen, or that turn the direction of text. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu, (character) => {
    return `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`;
  });
}

/** Return a value of a choice as it is shown: representatives of clusters by the first letters of their structure_id. */
export function valueText(value: string): string {
  return printable(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value) ? `${value.slice(0, 8)}…` : value);
}

/** Return round numbers within [low, high] for the ticks of an axis, about `wanted` of them. */
export function ticks(low: number, high: number, wanted = 5): number[] {
  const rough = (high - low) / wanted;
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  for (let i = first; i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}
