// Elements that several parts of the page of a protein use.
import type { Context } from "../context.ts";
import { type Child, h } from "../dom.ts";
import { decimals } from "../format.ts";
import { cssOf } from "./colours.ts";

/** Return a part of the page with its heading. */
export function section(title: string, css: string, ...children: Child[]): HTMLElement {
  const id = `p-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  return h("section", { class: `p-panel ${css}`, "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

export function fact(name: string, value: Child): HTMLElement {
  return h("span", { class: "p-fact" }, h("span", { class: "p-quiet" }, `${name} `), value);
}

/** Return a link to the page of a protein. */
export function link({ store }: Context, name: string, label: Child): HTMLAnchorElement {
  return h("a", { href: store.link({ protein: name }) }, label);
}

/** Return a mean pLDDT beside a swatch of its class. */
export function plddtCell(plddt: number | null): HTMLElement {
  return h(
    "span",
    { class: "p-value" },
    h("span", { class: `p-swatch p-${cssOf(plddt)}`, "aria-hidden": "true" }),
    decimals(plddt, 1),
  );
}

export interface Column<Item> {
  readonly name: string;
  readonly isNumber?: boolean;
  readonly isWide?: boolean;
  readonly cell: (item: Item) => Child;
}

function css<Item>({ isNumber, isWide }: Column<Item>): string | null {
  if (isNumber) return "p-num";
  return isWide ? "p-wide" : null;
}

/** Return a table that scrolls sideways where it is wider than the page. */
export function table<Item>(label: string, columns: readonly Column<Item>[], items: readonly Item[]): HTMLElement {
  return h(
    "div",
    { class: "p-scroll", tabindex: 0, role: "region", "aria-label": `Table: ${label}` },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h("tr", {}, ...columns.map((column) => h("th", { scope: "col", class: css(column) }, column.name))),
      ),
      h("tbody", {}, ...items.map((item) => row(columns, item))),
    ),
  );
}

export function row<Item>(columns: readonly Column<Item>[], item: Item): HTMLTableRowElement {
  return h("tr", {}, ...columns.map((column) => h("td", { class: css(column) }, column.cell(item))));
}
