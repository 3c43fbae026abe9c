import assert from "node:assert/strict";
import { test } from "node:test";
import { classOf } from "../plddt.ts";
import { alignmentText } from "../protein/alignment.ts";
import { fasta } from "../protein/downloads.ts";
import { countSelected, Focus } from "../protein/focus.ts";
import { movedBack, traceText } from "../protein/overlay.ts";
import { errorOf, parseErrors } from "../protein/pae.ts";
import { fileName, shown, sourceName } from "../protein/text.ts";
import { residueTicks } from "../protein/ticks.ts";

test("classes of pLDDT have the limits of AlphaFold DB", () => {
  const names = [90.1, 90, 70.1, 70, 50.1, 50, 0].map((plddt) => classOf(plddt)?.css);
  assert.deepEqual(names, ["very-high", "confident", "confident", "low", "low", "very-low", "very-low"]);
  assert.equal(classOf(null), undefined);
});

test("characters that cannot be seen are shown", () => {
  assert.equal(shown("a\u202eb\u0000c<b>"), "a\\u202eb\\u0000c<b>");
  assert.equal(shown("x".repeat(400)).length, 300);
  assert.equal(sourceName("file:///data/proteins.fasta"), "proteins.fasta");
  assert.equal(sourceName("s3://bucket/proteins.fasta"), "s3://bucket/proteins.fasta");
});

test("names of files come from no path", () => {
  assert.equal(fileName("sp|P12345|../x", "md5"), "sp_P12345_.._x");
  assert.equal(fileName("../..", "md5"), "md5");
  assert.equal(fileName("é/ü", "md5"), "md5");
});

test("selections are ordered and inside", () => {
  const focus = new Focus(50);
  focus.select({ first: [20, 10], second: [45, 99] });
  assert.deepEqual(focus.selection, { first: [10, 20], second: [45, 49] });
  assert.equal(countSelected(focus.selection!), 16);
  assert.equal(countSelected({ first: [0, 9], second: [5, 14] }), 15);
});

test("aligned errors are read by row and column", () => {
  const bytes = new ArrayBuffer(16 + 9);
  [3, 5, 2, 8].forEach((value, n) => {
    new DataView(bytes).setUint32(4 * n, value, true);
  });
  new Uint8Array(bytes, 16).set([0, 8, 16, 24, 32, 40, 48, 56, 64]);
  const errors = parseErrors(bytes);
  assert.equal(errorOf(errors, 0, 4), 2);
  assert.equal(errorOf(errors, 4, 0), 6);
  assert.throws(() => parseErrors(bytes.slice(0, 20)), /cut off/);
});

test("alignments show gaps of both", () => {
  const known = {
    target: "t",
    sequence: "QACDEF",
    alignment: [
      [0, 1, 2],
      [4, 3, 2],
    ] as [number, number, number][],
  };
  const [above, between, below] = alignmentText("ACGGDYK", known)
    .split("\n")
    .map((line) => line.slice(14));
  assert.equal(above, "ACGGDY 6");
  assert.equal(between, "||  |:");
  assert.equal(below, "AC--DE 5");
});

test("a structure is moved back as numpy would", () => {
  const turn = [
    [0, -1, 0],
    [1, 0, 0],
    [0, 0, 1],
  ];
  const moved = movedBack(traceText({ c_alphas: [[1, 2, 3], null, [-4, 5, 6]], sequence: "ACD" }), turn, [10, 20, 30]);
  const places = moved
    .split("\n")
    .filter((line) => line.startsWith("ATOM"))
    .map((line) => [30, 38, 46].map((at) => Number(line.slice(at, at + 8))));
  assert.deepEqual(places, [
    [-18, 9, -27],
    [-15, 14, -24],
  ]);
  assert.ok(moved.includes("ASP B   3"));
});

test("FASTA has lines of 60 and one header", () => {
  const text = fasta({ id: "a", description: "b\n>c", sequence: "M".repeat(70) });
  assert.deepEqual(text.split("\n"), [">a b >c", "M".repeat(60), "M".repeat(10), ""]);
});

test("ticks begin with the first residue", () => {
  assert.deepEqual(residueTicks(223, 5), [1, 50, 100, 150, 200]);
  assert.deepEqual(residueTicks(3, 5), [1, 2, 3]);
  assert.deepEqual(residueTicks(1, 5), [1]);
});
