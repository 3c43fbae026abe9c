// What a text in the search box is: the name of a protein, or a sequence.

const LEAST = 25; // letters of a sequence without a header: shorter texts can be names

/** Return the text without the header, spaces and the final * of FASTA, in capitals. */
export function sequenceOf(text: string): string {
  const lines = text.trim().split(/\r?\n/);
  return lines
    .filter((line) => !line.startsWith(">"))
    .join("")
    .replaceAll(/\s/g, "")
    .replace(/\*$/, "")
    .toUpperCase();
}

/** Return whether a text is meant as a sequence. */
export function isSequence(text: string): boolean {
  const letters = sequenceOf(text);
  if (!/^[A-Z]+$/.test(letters)) return false;
  return text.trim().startsWith(">") || letters.length >= LEAST;
}
