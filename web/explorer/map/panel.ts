// The map: the window that it shows, what is loaded for it, and the parts around its drawing.
import type { Context } from "../context.ts";
import { button, h } from "../dom.ts";
import { count, printable } from "../format.ts";
import { debounced, Latest } from "../latest.ts";
import type { Filter, State } from "../state.ts";
import { THEME_CHANGED } from "../theme.ts";
import { type Layer, MapCanvas, type Scene } from "./canvas.ts";
import { type Coloring, coloringOf } from "./coloring.ts";
import { Menu, Tools, zoomButtons } from "./controls.ts";
import { type Drawn, loadDrawn } from "./drawn.ts";
import { addGestures } from "./gestures.ts";
import { colored, faint } from "./layers.ts";
import { legend } from "./legend.ts";
import { type Column, type Explored, extent, type MapInfo } from "./model.ts";
import { Pointed } from "./pointed.ts";
import { nearest } from "./raster.ts";
import {
  contains,
  formatWindow,
  fromPixel,
  type Point,
  padded,
  parseWindow,
  squared,
  type Window,
  within,
} from "./viewport.ts";

const WAIT = 180; // milliseconds after a movement before the new window is asked for
const REACH = 14; // CSS pixels between the pointer and a point
const WIDEST = 8; // windows of the whole map
const NARROWEST = 1e-5;
const PLANE = "projection"; // the map whose x and y have one unit

export class MapPanel {
  readonly element: HTMLElement;
  coloring: Coloring;
  private readonly context: Context;
  private readonly explored: Explored;
  private readonly choose: (column: string, value: string | null) => void;
  private readonly canvas = new MapCanvas();
  private readonly stage = h("div", {
    class: "stage",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "map",
  });
  private readonly note = h("p", { class: "map-note", role: "status" });
  private readonly failure = h("div", { class: "stage-message", role: "alert", hidden: true });
  private readonly legendBox = h("div", { class: "legend-box" });
  private readonly pointed: Pointed;
  private readonly tools: Tools;
  private readonly mapMenu: Menu;
  private readonly colorMenu: Menu;
  private readonly loading: Latest;
  private readonly remember: () => void;
  private map: MapInfo;
  private window: Window;
  private front: Drawn | null = null; // what matches
  private back: Drawn | null = null; // all, where there is a filter
  private column = ""; // of which `front` has the values
  private loaded = ""; // what `front` was asked for
  private loadedBack = "";
  private painted: Layer | null = null; // `front`, coloured
  private drawing: Point[] = []; // the region while it is drawn
  private highlight: Point | null = null;
  private scheduled = false;
  private isStale = true; // the canvas, not only what is above it

  /** `choose` is called with a value of the legend that was clicked. */
  constructor(context: Context, explored: Explored, choose: (column: string, value: string | null) => void) {
    const { store, signal } = context;
    this.context = context;
    this.explored = explored;
    this.choose = choose;
    this.loading = new Latest(signal);
    this.pointed = new Pointed(context);
    this.tools = new Tools(this.stage);
    this.mapMenu = new Menu("Map", explored.maps, (map) => store.change({ view: { map, view: null } }));
    this.colorMenu = new Menu("Colour", explored.columns, (color) => store.change({ view: { color } }));
    this.map = mapOf(explored, store.state);
    this.coloring = coloringOf(columnOf(explored, store.state));
    this.window = this.windowOf(store.state);
    this.remember = debounced(() => this.writeWindow(), WAIT, signal);
    this.stage.append(this.canvas.element, this.canvas.overlay, this.pointed.tip);
    const title = h("h2", { class: "map-title" }, printable(this.map.label));
    this.element = h(
      "section",
      { class: "map-panel", "aria-label": "Map" },
      h(
        "div",
        { class: "map-head" },
        explored.maps.length > 1 ? this.mapMenu.element : title,
        this.colorMenu.element,
        this.tools.element,
      ),
      h("div", { class: "stage-box" }, this.stage, zoomButtons(this.stage), this.failure),
      this.legendBox,
      this.note,
      this.pointed.spoken,
    );
    this.listen();
  }

  /** Show a state. `counts` are the proteins of each code of the column that colours. */
  update(state: State, counts: readonly number[]): void {
    const map = mapOf(this.explored, state);
    if (map !== this.map) [this.front, this.back, this.painted] = [null, null, null]; // other coordinates
    this.map = map;
    this.coloring = coloringOf(columnOf(this.explored, state), counts);
    this.recolor();
    this.mapMenu.value = this.map.name;
    this.colorMenu.value = this.coloring.column.name;
    if (formatWindow(this.window) !== state.view.view) this.window = this.windowOf(state);
    this.legendBox.replaceChildren(legend(this.coloring, new Set(state.filter["choice"]), this.choose));
    const help =
      "Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the protein in the middle, Escape removes the region.";
    const label = `Map of ${count(this.map.proteins)} proteins: ${printable(this.map.label)}. ${help}`;
    this.stage.setAttribute("aria-label", label);
    this.draw();
    void this.load();
  }

  /** Mark the protein with a key, if its point is drawn. */
  mark(key: number | null): void {
    const place = key !== null && this.front?.kind === "points" ? this.front.keys.indexOf(key) : -1;
    this.highlight = this.pointOf(place);
    this.drawOverlay();
  }

  /** Return what is drawn, for a figure of it. */
  scene(): Scene {
    const { width, height } = this.canvas;
    const layers: Layer[] = [];
    if (this.back) layers.push(faint(this.back, this.canvas.color("--map-faint"), width, height));
    if (this.front) this.painted ??= colored(this.front, this.coloring, width, height);
    if (this.painted) layers.push(this.painted);
    return {
      window: this.window,
      layers,
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

  private windowOf(state: State): Window {
    return this.shaped(parseWindow(state.view.view) ?? padded(extent(this.map)));
  }

  private whole(): Window {
    return this.shaped(padded(extent(this.map)));
  }

  private shaped(window: Window): Window {
    return this.map.name === PLANE ? squared(window, this.canvas.width, this.canvas.height) : window;
  }

  /** Return the corners of the region that a state selects on this map. */
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
    new ResizeObserver(() => {
      if (!this.canvas.resize()) return;
      this.window = this.shaped(this.window);
      this.recolor(); // sizes of points
      this.draw();
      void this.load();
    }).observe(this.stage);
    document.addEventListener(THEME_CHANGED, () => this.draw(), { signal: this.context.signal });
    const panel = this;
    addGestures(this.stage, this.canvas, {
      get tool() {
        return panel.tools.tool;
      },
      get window() {
        return panel.window;
      },
      move: (window) => this.move(window),
      reset: () => this.move(this.whole()),
      region: (corners, final) => this.select(corners, final),
      hover: (pixel) => this.hover(pixel),
      open: (pixel) => void this.open(pixel),
      escape: () => this.escape(),
    });
  }

  private move(window: Window): void {
    const whole = extent(this.map);
    const part = (window.x1 - window.x0) / (whole.x1 - whole.x0 || 1);
    if (part > WIDEST || part < NARROWEST) return;
    this.window = window;
    this.draw();
    this.remember();
  }

  /** Write the window into the URL, in place of the one before, and load what it shows. */
  private writeWindow(): void {
    const shown = formatWindow(this.window);
    const view = shown === formatWindow(this.whole()) ? null : shown;
    if (!this.context.store.change({ view: { view } }, { replace: true })) void this.load();
  }

  private select(corners: Point[], final: boolean): void {
    this.drawing = final ? [] : corners;
    this.drawOverlay();
    if (!final || corners.length < 2) return;
    const digits = Math.max(0, Math.min(8, 4 - Math.floor(Math.log10(this.window.x1 - this.window.x0 || 1))));
    const numbers = corners.flat().map((value) => Number(value.toFixed(digits)));
    this.context.store.change({ filter: { region: [`${this.map.name}:${numbers.join(",")}`] }, view: { after: null } });
    this.tools.choose("move");
  }

  private escape(): void {
    this.hover(null);
    if (this.tools.tool === "move") this.context.store.change({ filter: { region: null }, view: { after: null } });
    else this.tools.choose("move");
  }

  private async load(): Promise<void> {
    const { filter } = this.context.store.state;
    if (this.canvas.width < 2) return; // not laid out yet
    const inside = within(this.window, extent(this.map));
    const covers = (drawn: Drawn | null) => drawn?.kind === "points" && contains(drawn.window, inside);
    const column = this.coloring.column.name;
    const wanted = JSON.stringify([this.map.name, column, filter]);
    const wantedBack = Object.keys(filter).length ? this.map.name : "";
    const hasBack = wantedBack === "" || (wantedBack === this.loadedBack && covers(this.back));
    const hasFront = wanted === this.loaded && covers(this.front);
    if (hasFront && hasBack) {
      if (wantedBack === "") this.back = null;
      this.loading.stop();
      this.element.removeAttribute("aria-busy");
      return;
    }
    this.element.setAttribute("aria-busy", "true");
    try {
      const found = await this.loading.run((signal) =>
        Promise.all([
          hasFront ? this.front : this.ask(filter, signal),
          hasBack ? (wantedBack ? this.back : null) : this.ask({}, signal),
        ]),
      );
      if (!found) return;
      [this.front, this.back] = found;
      [this.loaded, this.loadedBack, this.column] = [wanted, wantedBack, column];
      this.painted = null;
      this.failure.hidden = true;
      this.describe();
      this.draw();
    } catch (error) {
      const again = button("Try again", () => void this.load());
      this.failure.replaceChildren(h("p", {}, error instanceof Error ? error.message : String(error)), again);
      this.failure.hidden = false;
    }
    this.element.removeAttribute("aria-busy");
  }

  private ask(filter: Filter, signal: AbortSignal): Promise<Drawn> {
    const window = padded(this.window, 0.1);
    return loadDrawn(this.context.api, this.map, this.coloring.column, window, this.size, filter, signal);
  }

  private describe(): void {
    const drawn = this.front!;
    const proteins = count(drawn.proteins);
    const missing = this.explored.proteins - this.map.proteins;
    let text = `${proteins} proteins drawn, one point each. Click a point to open it.`;
    if (drawn.proteins === 0) text = "No protein that matches lies in this part of the map.";
    else if (drawn.kind === "cells")
      text = `${proteins} proteins here, drawn as a density: the denser, the stronger the colour. ${this.cellText()} Zoom in to see single ones.`;
    this.note.textContent = missing > 0 ? `${text} ${count(missing)} have no place on this map.` : text;
  }

  /** Return what the colour of a cell is. */
  private cellText(): string {
    if (this.coloring.column.type === "number") return "A cell has the colour of its mean.";
    return "A cell has the colour of its most frequent value, greyer where values are mixed: choose a value of the legend to see it alone.";
  }

  /** Colour the points again; those that have values of another column keep their colours until new ones arrive. */
  private recolor(): void {
    if (this.column === this.coloring.column.name) this.painted = null;
  }

  private draw(): void {
    this.isStale = true;
    this.drawOverlay();
  }

  /** Draw the next frame; without `draw`, only what is above the canvas. */
  private drawOverlay(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      if (this.context.signal.aborted || !this.stage.isConnected) return;
      if (this.isStale) this.canvas.draw(this.scene());
      else this.canvas.drawOverlay(this.scene());
      this.isStale = false;
    });
  }

  /** Return the place of the point near a pixel among those that are drawn, or -1. */
  private placeAt([x, y]: Point): number {
    const drawn = this.front;
    return drawn?.kind === "points" ? nearest(drawn.x, drawn.y, this.window, this.size, x, y, REACH) : -1;
  }

  private pointOf(place: number): Point | null {
    const drawn = this.front;
    return drawn?.kind === "points" && place >= 0 ? [drawn.x[place]!, drawn.y[place]!] : null;
  }

  private hover(pixel: Point | null): void {
    const place = pixel ? this.placeAt(pixel) : -1;
    if (place >= 0 || this.highlight) this.drawOverlay();
    this.highlight = this.pointOf(place);
    if (place < 0 || this.front?.kind !== "points") this.pointed.hide();
    else {
      const isSpoken = document.activeElement === this.stage;
      void this.pointed.show(this.front.keys[place]!, pixel!, this.size, isSpoken);
    }
  }

  /** Open the protein at a pixel, or zoom in where single ones are not drawn. */
  private async open(pixel: Point): Promise<void> {
    if (this.front?.kind === "cells") {
      const [x, y] = fromPixel(this.window, this.canvas.width, this.canvas.height, pixel);
      const { x0, x1, y0, y1 } = this.window;
      const [dx, dy] = [(x1 - x0) / 6, (y1 - y0) / 6];
      this.move({ x0: x - dx, x1: x + dx, y0: y - dy, y1: y + dy });
      return;
    }
    const place = this.placeAt(pixel);
    if (place < 0 || !this.front) return;
    try {
      const protein = await this.pointed.protein(this.front.keys[place]!, this.context.signal);
      this.context.store.change({ protein: protein.id });
    } catch (error) {
      this.note.textContent = error instanceof Error ? error.message : String(error);
    }
  }
}

function axisLabel(text: string): string {
  return text === "length" ? "length (residues)" : text;
}

function mapOf(explored: Explored, state: State): MapInfo {
  return explored.maps.find((map) => map.name === state.view.map) ?? explored.maps[0]!;
}

/** Return the column that colours the map: that of the URL, else mean pLDDT. */
export function columnOf(explored: Explored, state: State): Column {
  const named = (name: string | undefined) => explored.columns.find((column) => column.name === name);
  return named(state.view.color) ?? named("mean_plddt") ?? explored.columns[0]!;
}
