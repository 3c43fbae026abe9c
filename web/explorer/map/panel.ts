// The map: what is drawn in a window, its legend, tools, the protein under the pointer, and the selected region.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { count, decimals, printable } from "../format.ts";
import { debounced, Latest } from "../latest.ts";
import type { State } from "../state.ts";
import { THEME_CHANGED } from "../theme.ts";
import { type Layer, MapCanvas, type Scene } from "./canvas.ts";
import { type Coloring, coloringOf, drawingOrder } from "./coloring.ts";
import { type Drawn, loadDrawn } from "./drawn.ts";
import { addGestures, type Tool } from "./gestures.ts";
import { legend } from "./legend.ts";
import { type Column, type Explored, extent, type MapInfo, type Protein } from "./model.ts";
import { nearest, packed } from "./raster.ts";
import { contains, formatWindow, type Point, padded, parseWindow, squared, type Window } from "./viewport.ts";

const WAIT = 180; // milliseconds after a move before the new window is asked for
const HOVER_WAIT = 70;
const HOVER_REACH = 14; // CSS pixels
const PLANE = "projection"; // the map whose x and y have one unit

export interface MapEvents {
  /** A value of the legend was clicked. */
  readonly choose: (column: string, value: string | null) => void;
}

export class MapPanel {
  readonly element: HTMLElement;
  coloring: Coloring;
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly events: MapEvents;
  private readonly canvas = new MapCanvas();
  private readonly stage = h("div", {
    class: "stage",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "map",
  });
  private readonly tip = h("div", { class: "tip", hidden: true });
  private readonly spoken = h("p", { class: "offscreen", "aria-live": "polite" });
  private readonly note = h("p", { class: "map-note", role: "status" });
  private readonly failure = h("div", { class: "stage-message", role: "alert", hidden: true });
  private readonly legendBox = h("div", { class: "legend-box" });
  private readonly loading: Latest;
  private readonly hovering: Latest;
  private readonly reload: () => void;
  private readonly rewrite: () => void;
  private map: MapInfo;
  private window: Window;
  private tool: Tool = "move";
  private toolButtons: HTMLButtonElement[] = [];
  private front: Drawn | null = null;
  private back: Drawn | null = null;
  private order: Uint32Array | null = null;
  private colors: Uint32Array | null = null;
  private loaded = ""; // what the drawn points were asked for
  private drawing: Point[] = []; // the region while it is drawn
  private highlight: Point | null = null;
  private highlighted = -1; // key
  private scheduled = false;
  private readonly proteins = new Map<number, Protein>();

  constructor(context: Context, explored: Explored, events: MapEvents) {
    this.context = context;
    this.explored = explored;
    this.events = events;
    this.loading = new Latest(context.signal);
    this.hovering = new Latest(context.signal);
    this.map = mapOf(explored, context.store.state);
    this.coloring = coloringOf(columnOf(explored, context.store.state));
    this.window = this.windowOf(context.store.state);
    this.reload = debounced(() => void this.load(), WAIT, context.signal);
    this.rewrite = debounced(() => this.remember(), WAIT, context.signal);
    this.stage.append(this.canvas.element, this.canvas.overlay, this.tip);
    this.element = h(
      "section",
      { class: "map-panel", "aria-label": "Map" },
      h("div", { class: "map-head" }, this.mapMenu(), this.colorMenu(), this.tools()),
      h("div", { class: "stage-box" }, this.stage, this.zoomButtons(), this.failure),
      this.legendBox,
      this.note,
      this.spoken,
    );
    this.listen();
  }

  /** Show the present state: after a change of the URL, or of the counts by which colours are given. */
  update(state: State, counts: readonly number[]): void {
    this.map = mapOf(this.explored, state);
    this.coloring = coloringOf(columnOf(this.explored, state), counts);
    this.colors = null;
    this.syncMenus();
    if (formatWindow(this.window) !== state.view.view) this.window = this.windowOf(state);
    const active = new Set((state.filter["choice"] ?? []) as string[]);
    this.legendBox.replaceChildren(legend(this.coloring, active, this.events.choose));
    this.stage.setAttribute(
      "aria-label",
      `Map of ${count(this.map.proteins)} proteins: ${printable(this.map.label)}. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the protein in the middle.`,
    );
    this.draw();
    void this.load();
  }

  /** Mark the protein with a key, if its point is drawn. */
  mark(key: number | null): void {
    const drawn = this.front;
    this.highlight = null;
    this.highlighted = -1;
    if (key !== null && drawn?.kind === "points") {
      const place = drawn.keys.indexOf(key);
      if (place >= 0) this.highlight = [drawn.x[place]!, drawn.y[place]!];
    }
    this.draw();
  }

  /** Return what is drawn, for a figure of it. */
  scene(): Scene {
    return {
      window: this.window,
      layers: this.layers(),
      axes: this.map.name === PLANE ? null : { x: axisLabel(this.map.x_label), y: axisLabel(this.map.y_label) },
      region: this.drawing.length ? this.drawing : this.regionOf(this.context.store.state),
      highlight: this.highlight,
    };
  }

  get size(): { width: number; height: number } {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  get title(): string {
    return `${this.map.label}, coloured by ${this.coloring.column.label}`;
  }

  get background(): number {
    return this.canvas.background();
  }

  private windowOf(state: State): Window {
    return this.shaped(parseWindow(state.view.view) ?? padded(extent(this.map)));
  }

  private shaped(window: Window): Window {
    return this.map.name === PLANE ? squared(window, this.canvas.width, this.canvas.height) : window;
  }

  private regionOf(state: State): Point[] {
    const text = state.filter["region"]?.[0];
    if (!text?.startsWith(`${this.map.name}:`)) return [];
    const numbers = text
      .slice(this.map.name.length + 1)
      .split(",")
      .map(Number);
    return Array.from({ length: numbers.length >> 1 }, (_, i) => [numbers[2 * i]!, numbers[2 * i + 1]!] as Point);
  }

  private listen(): void {
    const { signal } = this.context;
    new ResizeObserver(() => {
      if (!this.canvas.resize()) return;
      this.window = this.shaped(this.window);
      this.draw();
      this.reload();
    }).observe(this.stage);
    document.addEventListener(THEME_CHANGED, () => this.draw(), { signal });
    const self = this;
    addGestures(this.stage, this.canvas, {
      get tool() {
        return self.tool;
      },
      get window() {
        return self.window;
      },
      move: (window) => this.move(window),
      reset: () => this.move(this.shaped(padded(extent(this.map)))),
      region: (corners, final) => this.select(corners, final),
      hover: (pixel) => this.hover(pixel),
      open: (pixel) => void this.open(pixel),
      escape: () => this.escape(),
    });
  }

  private move(window: Window): void {
    const whole = extent(this.map);
    const span = (window.x1 - window.x0) / (whole.x1 - whole.x0 || 1);
    if (span > 8 || span < 1e-5) return;
    this.window = window;
    this.draw();
    this.rewrite();
    this.reload();
  }

  /** Write the window into the URL, in place of the one before. */
  private remember(): void {
    const whole = formatWindow(this.shaped(padded(extent(this.map))));
    const shown = formatWindow(this.window);
    this.context.store.change({ view: { view: shown === whole ? null : shown } }, { replace: true });
  }

  private select(corners: Point[], final: boolean): void {
    this.drawing = final ? [] : corners;
    this.draw();
    if (!final || corners.length < 2) return;
    const digits = Math.max(0, Math.min(8, 4 - Math.floor(Math.log10(this.window.x1 - this.window.x0 || 1))));
    const numbers = corners.flat().map((value) => Number(value.toFixed(digits)));
    this.context.store.change({ filter: { region: [`${this.map.name}:${numbers.join(",")}`] }, view: { after: null } });
    this.setTool("move");
  }

  private escape(): void {
    this.hover(null);
    if (this.tool !== "move") this.setTool("move");
    else this.context.store.change({ filter: { region: null }, view: { after: null } });
  }

  // What is drawn

  private async load(): Promise<void> {
    const { state } = this.context.store;
    if (this.canvas.width < 2) return;
    const size = { width: this.canvas.width, height: this.canvas.height };
    const wanted = JSON.stringify([this.map.name, this.coloring.column.name, state.filter]);
    const enough = (drawn: Drawn | null) => drawn?.kind === "points" && contains(drawn.window, this.clipped());
    if (wanted === this.loaded && enough(this.front) && (!this.back || enough(this.back))) return;
    const asked = padded(this.window, 0.1);
    this.element.setAttribute("aria-busy", "true");
    const ask = (filter: State["filter"], signal: AbortSignal) =>
      loadDrawn(this.context.api, this.map, this.coloring.column, asked, size, filter, signal);
    const filtered = Object.keys(state.filter).length > 0;
    try {
      const result = await this.loading.run((signal) =>
        Promise.all([ask(state.filter, signal), filtered ? ask({}, signal) : null]),
      );
      if (!result) return;
      [this.front, this.back] = result;
      this.order = null;
      this.colors = null;
      this.loaded = wanted;
      this.failure.hidden = true;
      this.describe();
      this.draw();
    } catch (error) {
      this.failure.hidden = false;
      this.failure.replaceChildren(
        h("p", {}, error instanceof Error ? error.message : String(error)),
        button("Try again", () => void this.load()),
      );
    }
    this.element.removeAttribute("aria-busy");
  }

  /** Return the part of the window in which points can be. */
  private clipped(): Window {
    const whole = extent(this.map);
    const { window } = this;
    return {
      x0: Math.max(window.x0, whole.x0),
      x1: Math.max(Math.min(window.x1, whole.x1), whole.x0),
      y0: Math.max(window.y0, whole.y0),
      y1: Math.max(Math.min(window.y1, whole.y1), whole.y0),
    };
  }

  private describe(): void {
    const drawn = this.front;
    if (!drawn) return;
    if (drawn.proteins === 0)
      this.note.textContent = this.map.proteins
        ? "No protein that matches lies in this part of the map."
        : "The map is empty.";
    else if (drawn.kind === "points")
      this.note.textContent = `${count(drawn.proteins)} proteins drawn, one point each. Click a point to open it.`;
    else
      this.note.textContent = `${count(drawn.proteins)} proteins here, drawn as a density: the denser, the stronger the colour. Zoom in to see single ones.`;
    const missing = this.explored.proteins - this.map.proteins;
    if (missing > 0) this.note.append(` ${count(missing)} have no place on this map.`);
  }

  private draw(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (!this.context.signal.aborted && this.stage.isConnected) this.canvas.draw(this.scene());
    });
  }

  private layers(): Layer[] {
    const layers: Layer[] = [];
    const faint = packed(this.cssColor("--map-faint", "#c9cfd6"));
    if (this.back?.kind === "points")
      layers.push({
        kind: "dots",
        x: this.back.x,
        y: this.back.y,
        colors: faint,
        ...this.dotSize(this.back.proteins, 0.55),
      });
    else if (this.back) layers.push({ ...this.back, kind: "cells", colors: faint, opacity: 0.5 });
    const drawn = this.front;
    if (!drawn) return layers;
    if (drawn.kind === "points") {
      if (!this.order || !this.colors) this.arrange(drawn);
      layers.push({
        kind: "dots",
        x: arranged(drawn.x, this.order),
        y: arranged(drawn.y, this.order),
        colors: this.colors!,
        ...this.dotSize(drawn.proteins, 0.85),
      });
    } else {
      this.colors ??= Uint32Array.from(drawn.values, (value) => this.coloring.color(value));
      layers.push({ ...drawn, kind: "cells", colors: this.colors, opacity: 1 });
    }
    return layers;
  }

  private arrange(drawn: Drawn & { kind: "points" }): void {
    const isNumber = this.coloring.column.type === "number";
    this.order = isNumber ? null : drawingOrder(drawn.values);
    const colors = new Uint32Array(drawn.values.length);
    for (let i = 0; i < colors.length; i++)
      colors[i] = this.coloring.color(drawn.values[this.order ? this.order[i]! : i]!);
    this.colors = colors;
  }

  /** Return how large and opaque points are: the fewer there are on a screen, the larger. */
  private dotSize(points: number, opacity: number): { radius: number; opacity: number } {
    const room = Math.sqrt((this.canvas.width * this.canvas.height) / Math.max(1, points));
    const radius = Math.max(0.9, Math.min(4.5, room / 5));
    return { radius, opacity: points > 20_000 ? opacity * 0.75 : opacity };
  }

  private cssColor(name: string, otherwise: string): string {
    const color = getComputedStyle(this.stage).getPropertyValue(name).trim();
    return /^#[0-9a-f]{6}$/i.test(color) ? color : otherwise;
  }

  // Pointing at proteins

  private pointAt(pixel: Point): number {
    const drawn = this.front;
    if (drawn?.kind !== "points") return -1;
    return nearest(drawn.x, drawn.y, this.window, this.size, pixel[0], pixel[1], HOVER_REACH);
  }

  private hover(pixel: Point | null): void {
    const drawn = this.front;
    const place = pixel ? this.pointAt(pixel) : -1;
    if (place < 0 || drawn?.kind !== "points") {
      if (!this.highlight) return;
      this.highlight = null;
      this.highlighted = -1;
      this.tip.hidden = true;
      this.draw();
      return;
    }
    const key = drawn.keys[place]!;
    if (key === this.highlighted) return;
    this.highlighted = key;
    this.highlight = [drawn.x[place]!, drawn.y[place]!];
    this.draw();
    void this.showTip(key, pixel!);
  }

  private async showTip(key: number, pixel: Point): Promise<void> {
    try {
      const protein = await this.hovering.run(async (signal) => {
        await new Promise((done) => setTimeout(done, this.proteins.has(key) ? 0 : HOVER_WAIT));
        return signal.aborted ? undefined : this.protein(key, signal);
      });
      if (!protein || key !== this.highlighted) return;
      const facts = tipFacts(protein);
      this.tip.replaceChildren(
        h("strong", {}, h("bdi", {}, printable(protein.id))),
        ...facts.map((fact) => h("span", {}, fact)),
      );
      this.tip.hidden = false;
      const right = pixel[0] > this.canvas.width - 240;
      this.tip.style.left = right ? "auto" : `${pixel[0] + 14}px`;
      this.tip.style.right = right ? `${this.canvas.width - pixel[0] + 14}px` : "auto";
      this.tip.style.top = `${Math.max(4, Math.min(this.canvas.height - 90, pixel[1] + 10))}px`;
      if (document.activeElement === this.stage)
        this.spoken.textContent = `${printable(protein.id)}, ${facts.join(", ")}`;
    } catch {
      this.tip.hidden = true; // the next pointer movement asks again
    }
  }

  private async protein(key: number, signal: AbortSignal): Promise<Protein> {
    const known = this.proteins.get(key);
    if (known) return known;
    const found = await this.context.api.json<Protein>("v1/explore/point", {
      query: { key },
      signal,
    });
    this.proteins.set(key, found);
    return found;
  }

  private async open(pixel: Point): Promise<void> {
    const drawn = this.front;
    const place = this.pointAt(pixel);
    if (drawn?.kind === "cells") {
      const { width, height } = this.size;
      const [x, y] = [pixel[0] / width, 1 - pixel[1] / height];
      const { x0, x1, y0, y1 } = this.window;
      const at: Point = [x0 + (x1 - x0) * x, y0 + (y1 - y0) * y];
      const [dx, dy] = [(x1 - x0) / 6, (y1 - y0) / 6];
      this.move({ x0: at[0] - dx, x1: at[0] + dx, y0: at[1] - dy, y1: at[1] + dy });
      return;
    }
    if (place < 0 || drawn?.kind !== "points") return;
    try {
      const protein = await this.protein(drawn.keys[place]!, this.context.signal);
      this.context.store.change({ protein: nameOf(protein) });
    } catch (error) {
      this.note.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  // Controls

  private mapMenu(): HTMLElement | null {
    if (this.explored.maps.length < 2) return h("h2", { class: "map-title" }, printable(this.map.label));
    const menu = h(
      "select",
      { "data-menu": "map" },
      ...this.explored.maps.map((map) => h("option", { value: map.name }, printable(map.label))),
    );
    menu.addEventListener("change", () => this.context.store.change({ view: { map: menu.value, view: null } }));
    return h("label", { class: "menu" }, "Map ", menu);
  }

  private colorMenu(): HTMLElement {
    const menu = h(
      "select",
      { "data-menu": "color" },
      ...this.explored.columns.map((column) => h("option", { value: column.name }, printable(column.label))),
    );
    menu.addEventListener("change", () => this.context.store.change({ view: { color: menu.value } }));
    return h("label", { class: "menu" }, "Colour ", menu);
  }

  private syncMenus(): void {
    for (const menu of this.element.querySelectorAll<HTMLSelectElement>("select[data-menu]"))
      menu.value = menu.dataset["menu"] === "map" ? this.map.name : this.coloring.column.name;
  }

  private tools(): HTMLElement {
    const choices: [Tool, string, string][] = [
      ["move", "Move", "Drag moves the map"],
      ["rectangle", "Rectangle", "Drag selects a rectangle"],
      ["lasso", "Lasso", "Drag selects what you draw around"],
    ];
    this.toolButtons = choices.map(([tool, label, title]) =>
      button(label, () => this.setTool(tool), { "data-tool": tool, title, "aria-pressed": String(tool === this.tool) }),
    );
    return h(
      "div",
      { class: "segmented tools", role: "group", "aria-label": "What dragging does" },
      ...this.toolButtons,
    );
  }

  private zoomButtons(): HTMLElement {
    const press = (key: string) => () =>
      this.stage.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
    return h(
      "div",
      { class: "zoom", role: "group", "aria-label": "Zoom" },
      button("+", press("+"), { "aria-label": "Zoom in" }),
      button("−", press("-"), { "aria-label": "Zoom out" }),
      button("All", press("0"), { "aria-label": "Show all of the map" }),
    );
  }

  private setTool(tool: Tool): void {
    this.tool = tool;
    this.stage.dataset["tool"] = tool;
    for (const each of this.toolButtons) each.setAttribute("aria-pressed", String(each.dataset["tool"] === tool));
  }
}

function arranged(values: Float32Array, order: Uint32Array | null): Float32Array {
  return order ? Float32Array.from(order, (place) => values[place]!) : values;
}

function axisLabel(text: string): string {
  return text === "length" ? "length (residues)" : text;
}

/** Return the facts about a protein that a tooltip has. */
export function tipFacts(protein: Protein): string[] {
  const facts = [
    `${count(protein.length)} residues`,
    `pLDDT ${decimals(protein.mean_plddt, 1)}`,
    `pTM ${decimals(protein.ptm, 2)}`,
  ];
  if (protein.nearest_structure)
    facts.push(`nearest known ${printable(protein.nearest_structure)}, TM ${decimals(protein.tm_query, 2)}`);
  else if (protein.tm_query !== null)
    facts.push(protein.tm_query === 0 ? "no known structure found" : `TM to known ${decimals(protein.tm_query, 2)}`);
  return facts;
}

/** Return the name by which a protein's page is opened: its id, or where that may be of several, its structure. */
export function nameOf(protein: Protein): string {
  return protein.id;
}

function mapOf(explored: Explored, state: State): MapInfo {
  return explored.maps.find((map) => map.name === state.view.map) ?? explored.maps[0]!;
}

/** Return the column that colours the map: that of the URL, else known or novel where novelty was searched, else pLDDT. */
export function columnOf(explored: Explored, state: State): Column {
  const named = (name: string | undefined) => explored.columns.find((column) => column.name === name);
  return named(state.view.color) ?? named("mean_plddt") ?? explored.columns[0]!;
}
