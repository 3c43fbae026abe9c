// The controls of the map: which map, which colour, what dragging does, zoom.
import { button, type Child, h } from "../dom.ts";
import { printable } from "../format.ts";
import type { Tool } from "./gestures.ts";

interface Option {
  readonly name: string;
  readonly label: string;
}

/** A menu of options with a label. */
export class Menu {
  readonly element: HTMLElement;
  private readonly select: HTMLSelectElement;

  constructor(label: string, options: readonly Option[], chosen: (name: string) => void) {
    const items = options.map((option) => h("option", { value: option.name }, printable(option.label)));
    this.select = h("select", { onchange: () => chosen(this.select.value) }, ...items);
    this.element = h("label", { class: "menu" }, `${label} `, this.select);
  }

  set value(name: string) {
    this.select.value = name;
  }
}

const TOOLS: readonly (readonly [tool: Tool, label: string, title: string])[] = [
  ["move", "Move", "Drag moves the map"],
  ["rectangle", "Rectangle", "Drag selects a rectangle"],
  ["lasso", "Lasso", "Drag selects what you draw around"],
];

/** What dragging does on the map. */
export class Tools {
  readonly element: HTMLElement;
  private readonly stage: HTMLElement;
  private readonly buttons: readonly HTMLButtonElement[];
  private chosen: Tool = "move";

  constructor(stage: HTMLElement) {
    this.stage = stage;
    this.buttons = TOOLS.map(([tool, label, title]) =>
      button(label, () => this.choose(tool), { "data-tool": tool, title }),
    );
    const attributes = { class: "segmented tools", role: "group", "aria-label": "What dragging does" };
    this.element = h("div", attributes, ...this.buttons);
    this.choose("move");
  }

  get tool(): Tool {
    return this.chosen;
  }

  choose(tool: Tool): void {
    this.chosen = tool;
    this.stage.dataset["tool"] = tool;
    for (const each of this.buttons) each.setAttribute("aria-pressed", String(each.dataset["tool"] === tool));
  }
}

/** Return the buttons of zoom, which do what the keys do on `stage`. */
export function zoomButtons(stage: HTMLElement): HTMLElement {
  const press = (key: string) => () => stage.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
  const made = (label: Child, key: string, name: string) => button(label, press(key), { "aria-label": name });
  return h(
    "div",
    { class: "zoom", role: "group", "aria-label": "Zoom" },
    made("+", "+", "Zoom in"),
    made("−", "-", "Zoom out"),
    made("All", "0", "Show all of the map"),
  );
}
