import assert from "node:assert/strict";
import { test } from "node:test";
import { valueText } from "../format.ts";
import { chips, conditionOf, parseRange } from "../map/filters.ts";

test("every condition has a chip, and removing it leaves the others", () => {
  const filter = {
    range: ["mean_plddt:70:90", "b:c.d::5"],
    choice: ["known:novel", "known", "known:known: x"],
    region: ["projection:0,0,1,1"],
    where: ["length > 5"],
    min_tm: ["0.5"],
  };
  const found = chips(filter, new Map([["mean_plddt", { label: "Mean pLDDT" } as never]]));
  assert.deepEqual(
    found.map((chip) => chip.label),
    [
      "Mean pLDDT 70 to 90",
      "b:c.d below 5",
      "known: novel or no value or known: x",
      "Region of the map",
      "SQL: length > 5",
      "min tm: 0.5",
    ],
  );
  assert.deepEqual(found[0]!.removed, { range: ["b:c.d::5"] });
  assert.deepEqual(found[2]!.removed, { choice: [] });
});

test("a range is split at its last two colons", () =>
  assert.deepEqual(parseRange("a:b:1:"), { name: "a:b", least: "1", below: "" }));

test("the condition of a statement", () => {
  assert.equal(
    conditionOf("SELECT * FROM proteins WHERE (a > 1) AND b IN (SELECT c FROM d WHERE e)"),
    "(a > 1) AND b IN (SELECT c FROM d WHERE e)",
  );
  assert.equal(conditionOf("SELECT * FROM proteins"), "");
});

test("a cluster is shown by the first letters of its representative", () => {
  assert.equal(valueText("bdbf0c98-1a21-0d48-488a-da17fcc4ec78"), "bdbf0c98…");
  assert.equal(valueText("soil\u202e"), "soil\\u202e");
});
