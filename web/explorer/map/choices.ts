// A column of few values: a list of bars, each a button that selects its value. Several of one column are alternatives.
import { h } from "../dom.ts";
import { brief, count, printable, valueText } from "../format.ts";

export interface Choice {
  /** Value of the filter; null stands for proteins without a value. */
  readonly value: string | null;
  readonly label: string;
  readonly all: number;
  readonly matching: number;
  readonly color?: string | undefined;
}

const SHOWN = 6; // values before "Show all"

export class Choices {
  readonly element = h("div", { class: "choice-chart" });
  private readonly label: string;
  private readonly chosen: (values: (string | null)[]) => void;
  private open = false;

  constructor(label: string, chosen: (values: (string | null)[]) => void) {
    this.label = label;
    this.chosen = chosen;
  }

  update(choices: readonly Choice[], selected: readonly (string | null)[]): void {
    const most = Math.max(1, ...choices.map((choice) => choice.all));
    const mostMatching = Math.max(1, ...choices.map((choice) => choice.matching));
    const focused = (document.activeElement as HTMLElement | null)?.dataset?.["place"];
    const inside = this.element.contains(document.activeElement);
    const visible = choices.filter((choice, place) => this.open || place < SHOWN || selected.includes(choice.value));
    const rows = visible.map((choice, place) => {
      const on = selected.includes(choice.value);
      const toggle = () =>
        this.chosen(on ? selected.filter((each) => each !== choice.value) : [...selected, choice.value]);
      return h(
        "li",
        {},
        h(
          "button",
          {
            type: "button",
            class: "choice",
            "aria-pressed": String(on),
            "data-place": place,
            title: `${printable(choice.label)}: ${count(choice.matching)} of ${count(choice.all)}`,
            onclick: toggle,
          },
          swatch(choice.color),
          h("span", { class: "choice-label" }, valueText(choice.label)),
          bars(choice, most, mostMatching),
          h("span", { class: "choice-count" }, brief(choice.matching)),
        ),
      );
    });
    this.element.replaceChildren(
      h("ul", { "aria-label": this.label }, ...rows),
      ...this.more(choices, selected, visible.length),
    );
    if (inside && focused) (this.element.querySelector(`[data-place="${focused}"]`) as HTMLElement | null)?.focus();
  }

  private more(choices: readonly Choice[], selected: readonly (string | null)[], shown: number): HTMLElement[] {
    if (!this.open && shown === choices.length) return [];
    const press = () => {
      this.open = !this.open;
      this.update(choices, selected);
    };
    const label = this.open ? "Show fewer" : `Show all ${choices.length}`;
    return [h("button", { type: "button", class: "plain", onclick: press }, label)];
  }
}

function swatch(color: string | undefined): HTMLElement | null {
  if (!color) return null;
  const element = h("span", { class: "swatch" });
  element.style.backgroundColor = color;
  return element;
}

function bars(choice: Choice, most: number, mostMatching: number): HTMLElement {
  const all = h("span", { class: "choice-all" });
  const matching = h("span", { class: "choice-matching" });
  all.style.width = `${(100 * choice.all) / most}%`;
  matching.style.width = `${(100 * choice.matching) / mostMatching}%`;
  if (choice.color) matching.style.backgroundColor = choice.color;
  return h("span", { class: "choice-bars", "aria-hidden": "true" }, all, matching);
}
