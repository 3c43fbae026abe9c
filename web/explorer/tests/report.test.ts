import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { PLDDT_CLASSES } from "../plddt.ts";

// Reports are made without Node.js, so their script is apart from the explorer, and has these again.
const report = readFileSync(new URL("../../../atlas/report/template/report.js", import.meta.url), "utf8");
const viewer = readFileSync(new URL("../protein/viewer.ts", import.meta.url), "utf8");

test("reports have the explorer's classes of pLDDT", () => {
  const [colours] = /const COLOURS = .*;/.exec(report)!;
  const found = [...colours.matchAll(/\[([\w\s/]+), "(#[0-9a-f]{6})"\]/g)];
  assert.deepEqual(
    found.map(([, above, color]) => [above === "MISSING / 2" ? -Infinity : Number(above), color]),
    PLDDT_CLASSES.map(({ above, color }) => [above, color]),
  );
});

test("reports turn and zoom structures by the explorer's keys", () => {
  const keys = (text: string) => [
    .../const WAYS[^{]*\{([\s\S]*?)\n\s*\};/.exec(text)![1]!.matchAll(/^\s*"?([^\s":]+)"?: \(view\) => (.*),$/gm),
  ];
  const ways = keys(report).map(([, key, action]) => [key, action]);
  assert.equal(ways.length, 6);
  assert.deepEqual(
    ways,
    keys(viewer).map(([, key, action]) => [key, action]),
  );
});
