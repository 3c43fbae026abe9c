// What the page can do, for those who ask.
import { button, h } from "./dom.ts";

const KEYS: readonly [string, string][] = [
  ["/", "search"],
  ["Arrow keys, + and −, 0", "move and zoom the map, show all of it (when it has the focus)"],
  ["Enter", "open the protein in the middle of the map"],
  ["Escape", "remove the region of the map, or a brush"],
  ["Arrow keys on a handle", "move the end of a brush by one bar"],
];

export function helpButton(): HTMLButtonElement {
  return button("Help", show, { class: "plain" });
}

function show(): void {
  const close = h("button", { type: "submit" }, "Close");
  const dialog = h(
    "dialog",
    { class: "help", "aria-labelledby": "help-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "help-title" }, "How to read this page"),
      h(
        "p",
        {},
        "Each point of the map is one predicted structure. Drag to move, use the wheel or two fingers to zoom, click a point to open its protein. With Rectangle or Lasso, dragging selects proteins.",
      ),
      h(
        "p",
        {},
        "All parts show the same proteins: those that meet every condition above the map. Drag over a histogram or click a value to add a condition. The address of the page has all of it: copy it to send what you see.",
      ),
      h(
        "p",
        {},
        "pLDDT (0 to 100) is how sure the model is of the surroundings of each residue; above 90 is very high, above 70 confident. pTM (0 to 1) is that for the fold as a whole. A protein is new if it is confident and no known structure has a TM-score of 0.5 or more to it.",
      ),
      h("dl", { class: "facts" }, ...KEYS.map(([key, what]) => h("div", {}, h("dt", {}, key), h("dd", {}, what)))),
      h(
        "p",
        {},
        h("a", { href: "openapi.json" }, "HTTP API"),
        " · ",
        h("a", { href: licences() }, "Licences of the software"),
      ),
      close,
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Return the address of the licences: its name has a hash, which index.html knows. */
function licences(): string {
  return document.querySelector<HTMLLinkElement>("link[rel=license]")?.href ?? "#";
}
