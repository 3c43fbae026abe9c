// The alignment with the nearest known structure as text, in lines of a fixed length.
import type { Superposed } from "./types.ts";

const LINE = 60;

/** Return the alignment: the protein, `|` where residues are equal and `:` where aligned ones differ, the target. */
export function alignmentText(sequence: string, known: Pick<Superposed, "alignment" | "sequence" | "target">): string {
  let [above, between, below] = ["", "", ""];
  let [own, other] = [known.alignment[0]?.[0] ?? 0, known.alignment[0]?.[1] ?? 0];
  const start: [number, number] = [own, other];
  for (const [first, second, size] of known.alignment) {
    above += sequence.slice(own, first) + "-".repeat(second - other);
    between += " ".repeat(first - own + second - other);
    below += "-".repeat(first - own) + known.sequence.slice(other, second);
    for (let n = 0; n < size; n++) between += sequence[first + n] === known.sequence[second + n] ? "|" : ":";
    above += sequence.slice(first, first + size);
    below += known.sequence.slice(second, second + size);
    [own, other] = [first + size, second + size];
  }
  return lines(above, between, below, start);
}

function lines(above: string, between: string, below: string, start: [number, number]): string {
  const found: string[] = [];
  let [own, other] = start;
  for (let at = 0; at < above.length; at += LINE) {
    const [one, two] = [above.slice(at, at + LINE), below.slice(at, at + LINE)];
    const [first, second] = [own + 1, other + 1];
    own += one.replaceAll("-", "").length;
    other += two.replaceAll("-", "").length;
    found.push(
      `protein ${String(first).padStart(5)} ${one} ${own}`,
      `${" ".repeat(14)}${between.slice(at, at + LINE)}`,
      `known   ${String(second).padStart(5)} ${two} ${other}`,
      "",
    );
  }
  return found.join("\n");
}
