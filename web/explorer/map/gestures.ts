// Mouse, touch and keyboard on the map: move, zoom, draw a region, point at a protein, open it.
import type { MapCanvas } from "./canvas.ts";
import { fromPixel, type Point, panned, simplified, type Window, zoomed } from "./viewport.ts";

export type Tool = "move" | "rectangle" | "lasso";

export interface GestureTarget {
  readonly tool: Tool;
  readonly window: Window;
  /** Show another window. */
  move(window: Window): void;
  /** Show the whole map. */
  reset(): void;
  /** The region being drawn, then the final one. */
  region(corners: Point[], final: boolean): void;
  /** Point at a place, or at none. */
  hover(pixel: Point | null): void;
  /** Open what is at a place. */
  open(pixel: Point): void;
  /** Remove the region. */
  escape(): void;
}

export const MAX_CORNERS = 100; // of a region, by the server's limit
const CLICK = 5; // pixels that a click may move
const STEP = 0.15; // of the window, for an arrow key
const ZOOM = 1.4;

export function addGestures(element: HTMLElement, canvas: MapCanvas, target: GestureTarget): void {
  const pointers = new Map<number, Point>();
  let start: Point | null = null;
  let trail: Point[] = [];
  let moved = false;

  const pixel = (event: MouseEvent): Point => {
    const box = canvas.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const place = (at: Point) => fromPixel(target.window, canvas.width, canvas.height, at);
  const zoomAt = (factor: number, [px, py]: Point) =>
    target.move(zoomed(target.window, factor, px / canvas.width, 1 - py / canvas.height));
  const drawn = (): Point[] => {
    if (target.tool === "lasso") return simplified(trail, MAX_CORNERS).map(place);
    return [place(trail[0]!), place(trail.at(-1)!)];
  };

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, pixel(event));
    canvas.element.setPointerCapture(event.pointerId);
    if (pointers.size === 1) {
      start = pixel(event);
      trail = [start];
      moved = false;
    } else {
      if (target.tool !== "move") target.region([], false);
      start = null; // a pinch is no click and draws nothing
    }
  });
  element.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = pixel(event);
    if (!before) {
      if (event.pointerType !== "touch") target.hover(now);
      return;
    }
    if (pointers.size === 2) pinch(before, now, event.pointerId);
    else if (start) drag(before, now);
    pointers.set(event.pointerId, now);
  });
  const end = (event: PointerEvent) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    if (start && !moved && event.type === "pointerup") target.open(start);
    else if (start && moved && target.tool !== "move") target.region(event.type === "pointerup" ? drawn() : [], true);
    start = null;
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
  element.addEventListener("pointerleave", () => target.hover(null));
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1;
      zoomAt(2 ** (-Math.max(-200, Math.min(200, event.deltaY * lines)) / 200), pixel(event));
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => {
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  function drag(before: Point, now: Point): void {
    moved ||= Math.hypot(now[0] - start![0], now[1] - start![1]) > CLICK;
    if (!moved) return;
    target.hover(null);
    if (target.tool === "move") {
      target.move(panned(target.window, (before[0] - now[0]) / canvas.width, (now[1] - before[1]) / canvas.height));
      return;
    }
    const last = trail.at(-1)!;
    if (Math.hypot(now[0] - last[0], now[1] - last[1]) > 2) trail.push(now);
    target.region(drawn(), false);
  }

  function pinch(before: Point, now: Point, id: number): void {
    const [, other] = [...pointers].find(([each]) => each !== id)!;
    const spread = (at: Point) => Math.max(1, Math.hypot(at[0] - other[0], at[1] - other[1]));
    const middle = (at: Point): Point => [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    zoomAt(spread(now) / spread(before), middle(before));
    const [from, to] = [middle(before), middle(now)];
    target.move(panned(target.window, (from[0] - to[0]) / canvas.width, (to[1] - from[1]) / canvas.height));
  }

  const centre = (): Point => [canvas.width / 2, canvas.height / 2];
  const step = (right: number, up: number) => () => {
    target.move(panned(target.window, right, up));
    target.hover(centre());
  };
  const zoom = (factor: number) => () => {
    target.move(zoomed(target.window, factor));
    target.hover(centre());
  };
  const keys: Record<string, () => void> = {
    ArrowLeft: step(-STEP, 0),
    ArrowRight: step(STEP, 0),
    ArrowUp: step(0, STEP),
    ArrowDown: step(0, -STEP),
    "+": zoom(ZOOM),
    "=": zoom(ZOOM),
    "-": zoom(1 / ZOOM),
    "0": () => target.reset(),
    Enter: () => target.open(centre()),
    Escape: () => target.escape(),
  };
}
