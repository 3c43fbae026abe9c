// Texts and names as the page of a protein shows them.
import { ABSENT, decimals, printable } from "../format.ts";

const MAX_TEXT = 300;

/** Return a text of the atlas as it is shown: no longer than `longest`, with escapes for what cannot be seen. */
export function shown(text: string | null | undefined, longest = MAX_TEXT): string {
  const escaped = printable(text ?? "");
  return escaped.length > longest ? `${escaped.slice(0, longest - 1)}…` : escaped;
}

export function percent(fraction: number | null | undefined): string {
  if (fraction === null || fraction === undefined) return ABSENT;
  return `${decimals(100 * fraction, fraction < 0.1 && fraction > 0 ? 1 : 0)} %`;
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Return how a source is shown: a local file without its folders, which are private to a machine. */
export function sourceName(uri: string): string {
  return shown(uri.startsWith("file:") ? (uri.replace(/\/+$/, "").split("/").pop() ?? uri) : uri);
}

/** Return a name for a file: letters, digits and `-._` of an id, or the structure_id where little is left. */
export function fileName(id: string, structureId: string): string {
  const kept = id.replaceAll(/[^A-Za-z0-9._-]+/g, "_").replaceAll(/^[._]+|[._]+$/g, "");
  return kept.length >= 3 && kept.length <= 100 ? kept : structureId;
}

const NAMES: Record<string, string> = {
  A: "Ala",
  R: "Arg",
  N: "Asn",
  D: "Asp",
  C: "Cys",
  Q: "Gln",
  E: "Glu",
  G: "Gly",
  H: "His",
  I: "Ile",
  L: "Leu",
  K: "Lys",
  M: "Met",
  F: "Phe",
  P: "Pro",
  S: "Ser",
  T: "Thr",
  W: "Trp",
  Y: "Tyr",
  V: "Val",
  U: "Sec",
  O: "Pyl",
  B: "Asx",
  Z: "Glx",
  J: "Xle",
  X: "Unk",
};

/** Return the name and number of a residue, `Lys 42`; `residue` counts from 0. */
export function residueName(sequence: string, residue: number): string {
  return `${NAMES[sequence[residue] ?? "X"] ?? "Unk"} ${residue + 1}`;
}

export function residueCode(letter: string): string {
  return (NAMES[letter] ?? "Unk").toUpperCase();
}
