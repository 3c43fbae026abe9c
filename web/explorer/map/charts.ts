// The linked charts beside the map: one card for each column that is shown, each a brush.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { printable } from "../format.ts";
import type { State } from "../state.ts";
import { menu } from "./actions.ts";
import { type Choice, Choices } from "./choices.ts";
import { barColor, coloringOf } from "./coloring.ts";
import type { ChartFigure } from "./figures.ts";
import { parseRange } from "./filters.ts";
import { Histogram, type HistogramData, type Range } from "./histogram.ts";
import { byCode, type Column, type Counts, type Explored, NONE } from "./model.ts";

const ANNOTATIONS = 2; // columns of annotations that are shown at first

interface Card {
  readonly column: Column;
  readonly element: HTMLElement;
  readonly clear: HTMLButtonElement;
  readonly chart: Histogram | Choices;
}

/** Return the names of the columns whose charts a state shows. */
export function chartNames(state: State, explored: Explored): string[] {
  const names = new Set(explored.columns.map((column) => column.name));
  const asked = state.view.charts?.split(",").filter((name) => names.has(name));
  if (asked?.length) return asked;
  const known = (column: Column) => column.nulls < explored.proteins && !isUnsearched(column, explored);
  const annotations = explored.columns.filter((column) => column.name.includes(".") && known(column));
  const first = explored.columns.filter((column) => (column.first || column.name === "known") && known(column));
  return [...first, ...annotations.slice(0, ANNOTATIONS)].map((column) => column.name);
}

/** Return whether a column says only that novelty was not searched. */
function isUnsearched(column: Column, explored: Explored): boolean {
  return column.name === "known" && column.counts[column.values?.indexOf("not searched") ?? -1] === explored.proteins;
}

/** Return the range that a filter has for a column. */
export function rangeOf(state: State, column: string): Range {
  for (const text of state.filter["range"] ?? []) {
    const { name, least, below } = parseRange(text);
    if (name === column) return { least: least ? Number(least) : null, below: below ? Number(below) : null };
  }
  return { least: null, below: null };
}

/** Return the values of a column that a filter has; null is none. */
export function choicesOf(state: State, column: string): (string | null)[] {
  return (state.filter["choice"] ?? [])
    .filter((text) => text === column || text.startsWith(`${column}:`))
    .map((text) => (text === column ? null : text.slice(column.length + 1)));
}

/** Return the parameters `choice` of a filter with other values of a column. */
export function withChoices(state: State, column: string, values: readonly (string | null)[]): string[] {
  const others = (state.filter["choice"] ?? []).filter((text) => text !== column && !text.startsWith(`${column}:`));
  return [...others, ...values.map((value) => (value === null ? column : `${column}:${value}`))];
}

export class Charts {
  readonly element: HTMLElement;
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly list = h("div", { class: "cards" });
  private readonly chooser: HTMLElement;
  private cards = new Map<string, Card>();
  private counts: Readonly<Record<string, Counts>> = {};
  private brushing = false;

  constructor(context: Context, explored: Explored) {
    this.context = context;
    this.explored = explored;
    this.chooser = h("fieldset", {}, h("legend", {}, "Shown charts"));
    this.element = h(
      "section",
      { class: "charts", "aria-label": "Histograms" },
      h(
        "div",
        { class: "charts-head" },
        h("h2", {}, "Histograms"),
        h(
          "span",
          { class: "key" },
          h("span", { class: "key-all" }),
          "all ",
          h("span", { class: "key-matching" }),
          "match",
        ),
        menu("Choose", this.chooser),
      ),
      h("p", { class: "quiet" }, "Drag over bars to select a range; click values to select them."),
      this.list,
    );
  }

  /** Show the charts of a state, with counts of the columns that have them. */
  update(state: State, counts: Readonly<Record<string, Counts>> | null): void {
    if (counts) this.counts = counts;
    const names = chartNames(state, this.explored);
    this.fillChooser(names);
    const cards = new Map<string, Card>();
    for (const name of names) {
      const column = this.explored.columns.find((each) => each.name === name)!;
      cards.set(name, this.cards.get(name) ?? this.card(column));
    }
    const order = [...cards.values()].map((card) => card.element);
    if (order.length !== this.list.children.length || order.some((each, i) => this.list.children[i] !== each))
      this.list.replaceChildren(...order);
    this.cards = cards;
    for (const card of cards.values()) this.fill(card, state);
  }

  /** Return the histograms as figures. */
  figures(state: State): ChartFigure[] {
    return [...this.cards.values()]
      .filter((card) => card.column.type === "number")
      .map(({ column }) => ({
        label: column.label,
        unit: column.unit ?? "",
        data: this.data(column),
        range: rangeOf(state, column.name),
        color: barColor(column),
      }));
  }

  private card(column: Column): Card {
    const clear = button("Clear", () => this.clear(column), {
      class: "plain clear",
      "aria-label": `Clear ${column.label}`,
    });
    const title = h("h3", { title: column.meaning ?? "" }, printable(column.label));
    const unit =
      column.unit && !column.label.includes(column.unit) ? h("span", { class: "quiet" }, ` ${column.unit}`) : null;
    const chart =
      column.type === "number"
        ? new Histogram({
            label: column.label,
            unit: column.unit ?? "",
            color: barColor(column),
            brushed: (range, final) => this.brush(column, range, final),
          })
        : new Choices(column.label, (values) => this.choose(column, values));
    const head = h("div", { class: "card-head" }, title, unit, clear);
    return { column, clear, chart, element: h("div", { class: "card" }, head, chart.element) };
  }

  private fill(card: Card, state: State): void {
    const { column, chart } = card;
    if (chart instanceof Histogram) {
      const range = rangeOf(state, column.name);
      chart.update(this.data(column), range);
      card.clear.hidden = range.least === null && range.below === null;
    } else {
      const selected = choicesOf(state, column.name);
      chart.update(this.choices(column), selected);
      card.clear.hidden = selected.length === 0;
    }
  }

  private data(column: Column): HistogramData {
    const counts = this.counts[column.name];
    return {
      edges: column.edges ?? [0, 1],
      all: column.counts,
      matching: counts?.matching ?? column.counts,
      nulls: counts?.nulls ?? column.nulls,
    };
  }

  private choices(column: Column): Choice[] {
    const all = byCode(column);
    const found = this.counts[column.name];
    const matching = found ? byCode({ counts: found.matching, others: found.others, nulls: found.nulls }) : all;
    const colors = new Map(coloringOf(column, all).legend.map((entry) => [entry.code, entry.color]));
    const listed: Choice[] = (column.values ?? []).map((value, code) => ({
      value,
      label: column.type === "flag" ? (value === "true" ? "yes" : "no") : value,
      all: all[code]!,
      matching: matching[code]!,
      color: column.name === "known" || column.name === "confidence" ? colors.get(code) : undefined,
    }));
    const present = listed.filter((choice) => choice.all > 0);
    if (column.name !== "known" && column.name !== "confidence") present.sort((a, b) => b.all - a.all);
    if (all[NONE]) present.push({ value: null, label: "no value", all: all[NONE], matching: matching[NONE]! });
    return present;
  }

  private brush(column: Column, range: Range, final: boolean): void {
    const { store } = this.context;
    // While the mouse moves, only as often as the server answers: an atlas can be large.
    if (!final && document.querySelector("[aria-busy]")) return;
    const others = (store.state.filter["range"] ?? []).filter((text) => parseRange(text).name !== column.name);
    const none = range.least === null && range.below === null;
    const own = none ? [] : [`${column.name}:${range.least ?? ""}:${range.below ?? ""}`];
    // One entry of the history for a whole drag.
    store.change({ filter: { range: [...others, ...own] }, view: { after: null } }, { replace: this.brushing });
    this.brushing = !final;
  }

  private choose(column: Column, values: readonly (string | null)[]): void {
    const { store } = this.context;
    store.change({ filter: { choice: withChoices(store.state, column.name, values) }, view: { after: null } });
  }

  private clear(column: Column): void {
    if (column.type === "number") this.brush(column, { least: null, below: null }, true);
    else this.choose(column, []);
  }

  private fillChooser(names: readonly string[]): void {
    if (this.chooser.contains(document.activeElement)) return;
    const boxes = this.explored.columns.map((column) => {
      const box = h("input", { type: "checkbox", value: column.name });
      box.checked = names.includes(column.name);
      box.addEventListener("change", () => this.show(column.name, box.checked));
      const empty = column.nulls >= this.explored.proteins ? " (no values)" : "";
      return h("label", { title: column.meaning ?? "" }, box, ` ${printable(column.label)}${empty}`);
    });
    this.chooser.replaceChildren(h("legend", {}, "Shown charts"), ...boxes);
  }

  private show(name: string, shown: boolean): void {
    const { store } = this.context;
    const names = chartNames(store.state, this.explored).filter((each) => each !== name);
    store.change({ view: { charts: (shown ? [...names, name] : names).join(",") || null } });
  }
}
