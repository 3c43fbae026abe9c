import assert from "node:assert/strict";
import { test } from "node:test";
import { safeUrl } from "../dom.ts";

test("links run nothing", () => {
  for (const url of [
    "javascript:alert(1)",
    " JAVAscript:alert(1)",
    "java\nscript:alert(1)",
    "\u0001javascript:x",
    "data:text/html,<p>",
    "vbscript:x",
  ])
    assert.equal(safeUrl(url), "#", url);
  for (const url of [
    "/protein/a%3Ab",
    "?novel=true",
    "https://example.org/",
    "v1/proteins/x:y?a=b:c",
    "blob:http://h/1",
  ])
    assert.equal(safeUrl(url), url);
});
