// Texts as people read them. Ids and descriptions come from files of anyone: characters that cannot be seen, or that
// turn the direction of the text around them, are shown as escapes.

const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu;
const MAX_TEXT = 300;

/** Return a text of the atlas as it is shown: no longer than `longest`, with escapes for what cannot be seen. */
export function shown(text: string | null | undefined, longest = MAX_TEXT): string {
  const escaped = (text ?? "").replaceAll(UNSEEN, (character) => {
    const code = character.codePointAt(0)!;
    return `\\u${code.toString(16).padStart(4, "0")}`;
  });
  return escaped.length > longest ? `${escaped.slice(0, longest - 1)}…` : escaped;
}

export const ABSENT = "–";

/** Return a number with so many decimals, or a dash for null. */
export function decimals(value: number | null | undefined, digits: number): string {
  if (value === null || value === undefined) return ABSENT;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
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
