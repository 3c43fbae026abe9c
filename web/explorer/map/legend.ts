// The legend of the map's colours. Values of choices are buttons that filter.
import { button, h } from "../dom.ts";
import { brief } from "../format.ts";
import { type Coloring, legendText } from "./coloring.ts";
import type { Column } from "./model.ts";
import { rampColor } from "./palette.ts";

const MOST = 12; // entries

/** Return the legend. `active` are the texts COLUMN:VALUE that the filter has. */
export function legend(
  coloring: Coloring,
  active: ReadonlySet<string>,
  choose: (column: string, value: string | null) => void,
): HTMLElement {
  const { column } = coloring;
  if (coloring.ramp) return ramp(column, coloring.ramp);
  const entries = coloring.legend.slice(0, MOST).map((entry) => {
    const shown = [swatch(entry.color), legendText(entry)];
    if (!entry.choice) return h("li", {}, ...shown);
    const [name, value] = entry.choice;
    const text = value === null ? name : `${name}:${value}`;
    const label = h("span", {}, ...shown);
    return h(
      "li",
      {},
      button(label, () => choose(name, value), { class: "plain", "aria-pressed": String(active.has(text)) }),
    );
  });
  return h("ul", { class: "legend", "aria-label": `Colours: ${column.label}` }, ...entries);
}

function swatch(color: string): HTMLElement {
  const element = h("span", { class: "swatch", "aria-hidden": "true" });
  element.style.backgroundColor = color;
  return element;
}

function ramp(column: Column, [low, high]: readonly [number, number]): HTMLElement {
  const bar = h("span", { class: "ramp", "aria-hidden": "true" });
  const stops = Array.from({ length: 11 }, (_, step) => rampColor(step / 10));
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return h("div", { class: "legend" }, `${column.label} `, h("span", {}, brief(low)), bar, h("span", {}, brief(high)));
}
