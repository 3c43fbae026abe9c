import assert from "node:assert/strict";
import { test } from "node:test";
import { changed, formatState, parseState } from "../state.ts";

const read = (path: string, base = "/") => parseState(new URL(path, "http://host"), base);

test("state survives the URL", () => {
  const state = {
    protein: "a/b %?#é",
    view: { map: "umap", order: "desc" },
    filter: { range: ["ptm:0.5:", "length:60:90"], where: ["a < 'x&y'"] },
  };
  for (const base of ["/", "/atlas/"]) assert.deepEqual(read(formatState(state, base), base), state);
});

test("parameters that are not of the view are conditions", () => {
  assert.deepEqual(read("/?sort=ptm&novel=true&min_ptm="), {
    protein: null,
    view: { sort: "ptm" },
    filter: { novel: ["true"] },
  });
});

test("a stray percent sign is part of a name", () => assert.equal(read("/protein/100%").protein, "100%"));

test("null removes a parameter", () => {
  const state = changed(read("/?novel=true&min_ptm=0.5&sort=ptm"), { filter: { novel: null }, view: { sort: null } });
  assert.equal(formatState(state), "/?min_ptm=0.5");
  assert.equal(formatState(changed(state, { filter: { novel: ["true"] }, onlyFilter: true })), "/?novel=true");
});
