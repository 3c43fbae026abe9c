// The table of proteins: sorted by any column, in pages, rows opened by click or Enter.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { ABSENT, count, decimals, printable } from "../format.ts";
import { Latest } from "../latest.ts";
import type { State } from "../state.ts";
import type { Explored, Page, Protein } from "./model.ts";

export const PAGE_SIZE = 25;

interface Shown {
  readonly name: string;
  readonly label: string;
  readonly title: string;
  readonly number: boolean;
  readonly text: (protein: Protein) => string;
}

const COLUMNS: readonly Shown[] = [
  { name: "id", label: "Protein", title: "Id of the record", number: false, text: (one) => one.id },
  { name: "length", label: "Length", title: "Residues", number: true, text: (one) => count(one.length) },
  {
    name: "mean_plddt",
    label: "pLDDT",
    title: "Mean pLDDT, 0 to 100",
    number: true,
    text: (one) => decimals(one.mean_plddt, 1),
  },
  { name: "ptm", label: "pTM", title: "pTM, 0 to 1", number: true, text: (one) => decimals(one.ptm, 2) },
  {
    name: "tm_query",
    label: "TM to known",
    title: "TM-score to the nearest known structure, 0 to 1",
    number: true,
    text: (one) => decimals(one.tm_query, 2),
  },
  {
    name: "nearest_structure",
    label: "Nearest known",
    title: "Nearest known structure",
    number: false,
    text: (one) => one.nearest_structure ?? ABSENT,
  },
  {
    name: "identity_max",
    label: "Identity",
    title: "Identity to the nearest known sequence, 0 to 1",
    number: true,
    text: (one) => decimals(one.identity_max, 2),
  },
  {
    name: "description",
    label: "Description",
    title: "Rest of the record's header",
    number: false,
    text: (one) => one.description ?? "",
  },
];

/** Return the order that a state asks for. By default the best first. */
export function orderOf(state: State, explored: Explored): { sort: string; order: "asc" | "desc" } {
  const first = ["ptm", "mean_plddt", "id"].find((name) => explored.sorts.includes(name)) ?? "id";
  const sort = explored.sorts.includes(state.view.sort ?? "") ? state.view.sort! : first;
  const otherwise = sort === "id" || sort === "nearest_structure" ? "asc" : "desc";
  return { sort, order: state.view.order === "asc" || state.view.order === "desc" ? state.view.order : otherwise };
}

export class ProteinTable {
  readonly element: HTMLElement;
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly pointed: (key: number | null) => void;
  private readonly loading: Latest;
  private readonly head = h("tr");
  private readonly body = h("tbody");
  private readonly message = h("p", { class: "table-message", role: "status" });
  private readonly pages = h("nav", { class: "pages", "aria-label": "Pages of the table" });
  /** Cursors of the pages before the present one; without them "Back" is the browser's. */
  private before: (string | null)[] = [];
  private readonly columns: readonly Shown[];

  constructor(context: Context, explored: Explored, pointed: (key: number | null) => void) {
    this.context = context;
    this.explored = explored;
    this.pointed = pointed;
    this.loading = new Latest(context.signal);
    this.columns = COLUMNS.filter((column) => hasValues(explored, column.name));
    const table = h(
      "table",
      {},
      h("caption", { class: "offscreen" }, "Proteins that match"),
      h("thead", {}, this.head),
      this.body,
    );
    this.element = h(
      "div",
      { class: "table-box" },
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of proteins" }, table),
      this.message,
      this.pages,
    );
    this.body.addEventListener("pointerleave", () => this.pointed(null));
  }

  async update(state: State): Promise<void> {
    const { sort, order } = orderOf(state, this.explored);
    this.drawHead(sort, order);
    this.element.setAttribute("aria-busy", "true");
    try {
      const query = { sort, order, size: PAGE_SIZE, after: state.view.after, ...state.filter };
      const page = await this.loading.run((signal) =>
        this.context.api.json<Page>("v1/explore/rows", { query, signal }),
      );
      if (!page) return;
      this.drawRows(page.items);
      this.drawPages(state, page);
    } catch (error) {
      this.body.replaceChildren();
      this.pages.replaceChildren();
      const again = button("Try again", () => void this.update(this.context.store.state));
      this.message.replaceChildren(error instanceof Error ? error.message : String(error), " ", again);
    }
    this.element.removeAttribute("aria-busy");
  }

  private drawHead(sort: string, order: "asc" | "desc"): void {
    const focused = document.activeElement?.getAttribute("data-sort");
    this.head.replaceChildren(
      ...this.columns.map((column) => {
        const attributes = { scope: "col", class: column.number ? "number" : null, title: column.title };
        if (!this.explored.sorts.includes(column.name)) return h("th", attributes, column.label);
        const sorted = column.name === sort ? (order === "asc" ? "ascending" : "descending") : null;
        const press = () => this.sortBy(column, sort, order);
        return h(
          "th",
          { ...attributes, "aria-sort": sorted },
          button(column.label, press, { "data-sort": column.name }),
        );
      }),
    );
    if (focused) this.head.querySelector<HTMLElement>(`[data-sort="${focused}"]`)?.focus();
  }

  private sortBy(column: Shown, sort: string, order: "asc" | "desc"): void {
    const first = column.number ? "desc" : "asc";
    const next = column.name === sort ? (order === "asc" ? "desc" : "asc") : first;
    this.context.store.change({ view: { sort: column.name, order: next, after: null } });
  }

  private drawRows(proteins: readonly Protein[]): void {
    this.message.textContent = proteins.length ? "" : "No protein matches. Remove a condition, or widen a brush.";
    this.body.replaceChildren(...proteins.map((protein) => this.row(protein)));
  }

  private row(protein: Protein): HTMLElement {
    const address = this.context.store.link({ protein: protein.id });
    const cells = this.columns.map((column) => {
      const text = printable(column.text(protein));
      if (column.name !== "id") return h("td", { class: column.number ? "number" : "text" }, h("bdi", {}, text));
      return h("th", { scope: "row" }, h("a", { href: address }, h("bdi", {}, text)));
    });
    const point = () => this.pointed(protein.key);
    return h(
      "tr",
      { onpointerenter: point, onfocusin: point, onclick: (event: MouseEvent) => this.open(event, protein) },
      ...cells,
    );
  }

  /** A click anywhere in a row opens it, unless text is being selected. */
  private open(event: MouseEvent, protein: Protein): void {
    if ((event.target as Element).closest("a") || getSelection()?.toString()) return;
    this.context.store.change({ protein: protein.id });
  }

  private drawPages(state: State, page: Page): void {
    const { store } = this.context;
    const now = state.view.after ?? null;
    const place = this.before.indexOf(now);
    if (place >= 0) this.before.length = place; // reached by the browser's back button
    if (now === null) this.before = [];
    const last = this.before.at(-1);
    const first = button("First page", () => store.change({ view: { after: null } }));
    first.disabled = now === null;
    const back = button("Previous", () => {
      this.before.pop();
      store.change({ view: { after: last ?? null } });
    });
    back.disabled = now === null || last === undefined;
    const next = button("Next", () => {
      this.before.push(now);
      store.change({ view: { after: page.next } });
    });
    next.disabled = page.next === null;
    if (now === null && page.next === null) this.pages.replaceChildren();
    else this.pages.replaceChildren(first, back, next);
  }
}

/** Return whether any protein has a value of a column. What is not known to the explorer is shown. */
function hasValues(explored: Explored, name: string): boolean {
  const column = explored.columns.find((each) => each.name === (name === "nearest_structure" ? "tm_query" : name));
  return !column || column.nulls < explored.proteins;
}
