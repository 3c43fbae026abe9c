// The page of the whole atlas: filter, map, charts, table, and what a user takes away. Each part shows the state of the
// URL; a change of it asks the server only for what the change concerns.
import type { Context } from "../context.ts";
import { save } from "../copy.ts";
import { button, h } from "../dom.ts";
import { count } from "../format.ts";
import { Latest } from "../latest.ts";
import type { State } from "../state.ts";
import { Downloads, linkButton, menu } from "./actions.ts";
import { Charts, chartNames, choicesOf, withChoices } from "./charts.ts";
import { chartsSvg, mapPng } from "./figures.ts";
import { FilterBar } from "./filters.ts";
import { byCode, type Explored, type Summary } from "./model.ts";
import { columnOf, MapPanel } from "./panel.ts";
import { presetBar } from "./presets.ts";
import { ProteinTable } from "./table.ts";

/** Fill `root` with the map page. */
export async function renderMap(root: HTMLElement, context: Context): Promise<void> {
  const { api, signal } = context;
  const waiting = (reason: string) =>
    root.replaceChildren(h("p", { class: "waiting", role: "status" }, h("span", { class: "spinner" }), ` ${reason}`));
  const explored = await api.json<Explored>("v1/explore/columns", { signal, waiting });
  if (explored.proteins === 0) {
    root.replaceChildren(
      h(
        "section",
        { class: "failure" },
        h("h1", {}, "An atlas without structures"),
        h("p", {}, "Nothing was folded or imported yet. When foldatlas has indexed structures, they appear here."),
      ),
    );
    return;
  }
  new MapPage(context, explored, root);
}

class MapPage {
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly filters: FilterBar;
  private readonly panel: MapPanel | null;
  private readonly charts: Charts;
  private readonly table: ProteinTable;
  private readonly downloads: Downloads;
  private readonly presets = h("div");
  private readonly counting: Latest;
  private summary: Summary | null = null;

  constructor(context: Context, explored: Explored, root: HTMLElement) {
    this.context = context;
    this.explored = explored;
    this.counting = new Latest(context.signal);
    this.filters = new FilterBar(context, explored);
    this.panel = explored.maps.length
      ? new MapPanel(context, explored, (column, value) => this.choose(column, value))
      : null;
    this.charts = new Charts(context, explored);
    this.table = new ProteinTable(context, explored, (key) => this.panel?.mark(key));
    this.downloads = new Downloads(context);
    root.replaceChildren(
      h("h1", { class: "offscreen" }, "Map of the atlas"),
      h(
        "div",
        { class: "hero" },
        this.presets,
        h("div", { class: "actions" }, this.downloads.element, this.figureMenu(), linkButton()),
      ),
      this.filters.element,
      h("div", { class: "explore" }, this.panel?.element ?? noMap(), this.charts.element),
      h(
        "section",
        { "aria-labelledby": "table-title" },
        h("h2", { id: "table-title" }, "Proteins"),
        this.table.element,
      ),
    );
    context.store.onChange((state, before) => this.changed(state, before), context.signal);
    this.changed(context.store.state, null);
  }

  private changed(state: State, before: State | null): void {
    if (state.protein !== null || state.view.search) return; // the router leaves this page
    const differs = (part: (state: State) => unknown) =>
      before === null || JSON.stringify(part(state)) !== JSON.stringify(part(before));
    const filter = differs((each) => each.filter);
    if (filter || differs((each) => [each.view.charts, each.view.color])) {
      this.presets.replaceChildren(presetBar(this.context, this.explored, state));
      this.filters.update(state.filter, null, null);
      this.charts.update(state, null);
      void this.count(state);
    }
    if (filter || differs((each) => [each.view.map, each.view.color, each.view.view]))
      this.panel?.update(state, this.colorCounts(state));
    if (filter || differs((each) => [each.view.sort, each.view.order, each.view.after])) void this.table.update(state);
  }

  private async count(state: State): Promise<void> {
    const columns = [...new Set([...chartNames(state, this.explored), columnOf(this.explored, state).name])];
    const element = this.charts.element;
    element.setAttribute("aria-busy", "true");
    try {
      const query = { columns: columns.join(","), ...state.filter };
      const summary = await this.counting.run((signal) =>
        this.context.api.json<Summary>("v1/explore/summary", { query, signal }),
      );
      if (!summary) return;
      this.summary = summary;
      this.filters.update(this.context.store.state.filter, summary.sql, summary.matching);
      this.charts.update(this.context.store.state, summary.columns);
      this.downloads.update(summary.matching);
    } catch (error) {
      this.filters.showError(error instanceof Error ? error.message : String(error));
    }
    element.removeAttribute("aria-busy");
  }

  private colorCounts(state: State): number[] {
    const column = columnOf(this.explored, state);
    return column.type === "number" ? [] : byCode(column);
  }

  /** The legend was clicked: select a value, or no longer. */
  private choose(column: string, value: string | null): void {
    const { store } = this.context;
    const before = choicesOf(store.state, column);
    const values = before.includes(value) ? before.filter((each) => each !== value) : [...before, value];
    store.change({ filter: { choice: withChoices(store.state, column, values) }, view: { after: null } });
  }

  private figureMenu(): HTMLElement {
    const items = [];
    if (this.panel) items.push(button("Map (PNG)", () => void this.saveMap()));
    items.push(button("Histograms (SVG)", () => this.saveCharts()));
    return menu("Figure", ...items);
  }

  private async saveMap(): Promise<void> {
    const panel = this.panel!;
    const matching =
      this.summary && this.summary.matching !== this.explored.proteins ? `${count(this.summary.matching)} of ` : "";
    const title = `${panel.title} (${matching}${count(this.explored.proteins)} proteins)`;
    save(await mapPng({ scene: panel.scene(), ...panel.size, title, coloring: panel.coloring }), "map.png");
  }

  private saveCharts(): void {
    const matching = this.summary?.matching ?? this.explored.proteins;
    const text = chartsSvg(this.charts.figures(this.context.store.state), matching, this.explored.proteins);
    save(new Blob([text], { type: "image/svg+xml" }), "histograms.svg");
  }
}

function noMap(): HTMLElement {
  return h(
    "section",
    { class: "map-panel" },
    h("p", {}, "No protein has a place on a map: foldatlas project makes one."),
  );
}
