// What is asked first, one click away: the best of what is new, all of high confidence, one of each family.
import type { Context } from "../context.ts";
import { h } from "../dom.ts";
import { count } from "../format.ts";
import type { Change, State } from "../state.ts";
import type { Column, Explored } from "./model.ts";

interface Preset {
  readonly label: string;
  readonly title: string;
  readonly change: Change;
  /** Stands out. */
  readonly isBest?: boolean;
  /** Proteins that it shows; null where that is not known. */
  readonly proteins: number;
}

/** Return the filters that the atlas has something for. */
export function presets(explored: Explored): Preset[] {
  const column = (name: string) => explored.columns.find((each) => each.name === name);
  const view = { after: null, view: null, search: null };
  const found: Preset[] = [
    {
      label: "All proteins",
      title: "Without conditions",
      proteins: explored.proteins,
      change: { onlyFilter: true, view },
    },
  ];
  const known = column("known");
  found.push({
    label: "Best of what is new",
    isBest: true,
    title: "High confidence and no known structure like it, the best first",
    proteins: number(known, "novel"),
    change: {
      onlyFilter: true,
      filter: { choice: ["known:novel"] },
      view: { ...view, sort: "ptm", order: "desc", color: "known" },
    },
  });
  const confidence = column("confidence");
  found.push({
    label: "Very high confidence",
    title: "Mean pLDDT above 90, the best first",
    proteins: number(confidence, "very high"),
    change: {
      onlyFilter: true,
      filter: { choice: ["confidence:very high"] },
      view: { ...view, sort: "mean_plddt", order: "desc", color: "mean_plddt" },
    },
  });
  const families = column("is_representative30");
  const representatives = number(families, "true");
  if (representatives)
    found.push({
      label: "One of each family",
      title: "Representatives of clusters at 30 % sequence identity",
      proteins: representatives,
      change: { onlyFilter: true, filter: { choice: ["is_representative30:true"] }, view },
    });
  return found;
}

function number(column: Column | undefined, value: string): number {
  const code = column?.values?.indexOf(value) ?? -1;
  return code < 0 ? 0 : (column?.counts[code] ?? 0);
}

/** Return the presets as links; that of the present state is marked. */
export function presetBar(context: Context, explored: Explored, state: State): HTMLElement {
  const known = explored.columns.find((column) => column.name === "known");
  const searched = known ? explored.proteins - number(known, "not searched") : 0;
  const items = presets(explored).map((preset) => {
    const url = context.store.link(preset.change);
    const current = JSON.stringify(state.filter) === JSON.stringify(preset.change.filter ?? {});
    const link = h(
      "a",
      {
        href: url,
        title: preset.title,
        class: preset.isBest && preset.proteins ? "preset best" : "preset",
        "aria-current": current ? "true" : null,
      },
      preset.label,
      h("span", { class: "preset-count" }, count(preset.proteins)),
    );
    return h("li", {}, link);
  });
  const why =
    searched === 0
      ? h(
          "p",
          { class: "quiet" },
          "No search against known structures was made, so nothing is known to be new. ",
          h("code", {}, "foldatlas novelty"),
          " makes one.",
        )
      : null;
  return h("nav", { class: "presets", "aria-label": "First looks" }, h("ul", {}, ...items), why);
}
