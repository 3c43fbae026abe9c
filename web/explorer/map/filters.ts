// The filter as chips, and as the SQL behind them, which can be copied and, where the server allows SQL, edited.
import type { Context } from "../context.ts";
import { copyButton } from "../copy.ts";
import { button, h } from "../dom.ts";
import { count, printable, valueText } from "../format.ts";
import type { Filter } from "../state.ts";
import type { Column, Explored } from "./model.ts";

const SHOWN = 60; // characters of a text in a chip

export interface Chip {
  readonly label: string;
  /** The filter without this condition: what its parameters become. */
  readonly removed: Readonly<Record<string, readonly string[] | null>>;
}

/** Return one chip for each condition, those of one column together. */
export function chips(filter: Filter, columns: ReadonlyMap<string, Column>): Chip[] {
  const found: Chip[] = [];
  for (const text of filter["range"] ?? []) {
    const { name, least, below } = parseRange(text);
    found.push({
      label: `${title(name, columns)} ${rangeLabel(least, below)}`,
      removed: without(filter, "range", [text]),
    });
  }
  const choices = new Map<string, string[]>();
  for (const text of filter["choice"] ?? []) {
    const name = text.split(":", 1)[0]!;
    choices.set(name, [...(choices.get(name) ?? []), text]);
  }
  for (const [name, texts] of choices) {
    const values = texts.map((text) => (text === name ? "no value" : valueText(text.slice(name.length + 1))));
    found.push({
      label: `${title(name, columns)}: ${shortened(values.join(" or "))}`,
      removed: without(filter, "choice", texts),
    });
  }
  for (const text of filter["region"] ?? [])
    found.push({ label: "Region of the map", removed: without(filter, "region", [text]) });
  for (const [name, values] of Object.entries(filter)) {
    if (name === "range" || name === "choice" || name === "region") continue;
    const label = name === "where" ? "SQL" : name.replaceAll("_", " ");
    found.push({ label: `${label}: ${shortened(values.join(", "))}`, removed: { [name]: null } });
  }
  return found;
}

function without(filter: Filter, parameter: string, texts: readonly string[]): Chip["removed"] {
  return { [parameter]: (filter[parameter] ?? []).filter((each) => !texts.includes(each)) };
}

function title(name: string, columns: ReadonlyMap<string, Column>): string {
  return columns.get(name)?.label ?? name;
}

function rangeLabel(least: string, below: string): string {
  if (least && below) return `${least} to ${below}`;
  return below ? `below ${below}` : `from ${least}`;
}

function shortened(text: string): string {
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}

/** Return the parts of COLUMN:LEAST:BELOW. */
export function parseRange(text: string): { name: string; least: string; below: string } {
  const parts = text.split(":");
  const [least, below] = [parts.at(-2) ?? "", parts.at(-1) ?? ""];
  return { name: parts.slice(0, -2).join(":"), least, below };
}

/** Return the condition of a SELECT that the server shows, or an empty text if it has none. */
export function conditionOf(sql: string): string {
  const place = sql.search(/\bWHERE\b/);
  return place < 0 ? "" : sql.slice(place + "WHERE".length).trim();
}

export class FilterBar {
  readonly element: HTMLElement;
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly columns: ReadonlyMap<string, Column>;
  private readonly total = h("strong", { class: "total" });
  private readonly list = h("ul", { class: "chips", "aria-label": "Conditions" });
  private readonly statement = h("code");
  private readonly editor = h("textarea", { rows: 4, spellcheck: "false", "aria-label": "Condition in SQL" });
  private readonly error = h("p", { class: "error", role: "alert", hidden: true });

  constructor(context: Context, explored: Explored) {
    this.context = context;
    this.explored = explored;
    this.columns = new Map(explored.columns.map((column) => [column.name, column]));
    const status = h("p", { class: "matching", role: "status" }, this.total);
    this.element = h(
      "section",
      { class: "filter-bar", "aria-label": "Filter" },
      status,
      this.list,
      this.sqlBox(),
      this.error,
    );
  }

  /** Show the present filter. `sql` and `matching` are null while they are not known. */
  update(filter: Filter, sql: string | null, matching: number | null): void {
    const all = count(this.explored.proteins);
    const present = chips(filter, this.columns);
    if (matching !== null)
      this.total.textContent = present.length ? `${count(matching)} of ${all} proteins` : `${all} proteins`;
    const { store } = this.context;
    this.list.replaceChildren(
      ...present.map((chip) =>
        h(
          "li",
          { class: "chip" },
          h("span", {}, printable(chip.label)),
          button("×", () => store.change({ filter: chip.removed, view: { after: null } }), {
            "aria-label": `Remove ${printable(chip.label)}`,
          }),
        ),
      ),
      present.length > 1
        ? h(
            "li",
            {},
            button("Clear all", () => store.change({ onlyFilter: true, view: { after: null } }), { class: "plain" }),
          )
        : "",
    );
    if (sql !== null) {
      this.statement.textContent = sql;
      if (document.activeElement !== this.editor) this.editor.value = conditionOf(sql);
      this.showError(null);
    }
  }

  showError(text: string | null): void {
    this.error.hidden = text === null;
    this.error.textContent = text;
    if (text !== null) this.total.textContent = "This filter cannot be shown";
  }

  private sqlBox(): HTMLElement {
    const { store } = this.context;
    const apply = () => {
      const where = this.editor.value.trim();
      store.change({ onlyFilter: true, filter: { where: where ? [where] : null }, view: { after: null } });
    };
    this.editor.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) apply();
    });
    const off = "Conditions in SQL cannot be typed here: this server has SQL off.";
    const editing =
      this.explored.where === "off"
        ? h("p", { class: "quiet" }, off)
        : h(
            "div",
            { class: "edit" },
            h("p", { class: "quiet" }, "Edit the condition, over the columns of proteins, and apply it (Ctrl+Enter):"),
            this.editor,
            h(
              "div",
              { class: "row" },
              button("Apply", apply, { class: "primary" }),
              copyButton("Copy the condition", () => this.editor.value),
            ),
          );
    return h(
      "details",
      { class: "sql" },
      h("summary", {}, "SQL of this filter"),
      h("pre", { tabindex: 0, role: "region", "aria-label": "SQL of this filter" }, this.statement),
      copyButton("Copy the statement", () => this.statement.textContent),
      editing,
    );
  }
}
