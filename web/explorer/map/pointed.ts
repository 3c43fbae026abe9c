// The protein that is pointed at: a tooltip beside the pointer, and its facts for screen readers.
import type { Context } from "../context.ts";
import { h } from "../dom.ts";
import { count, decimals, printable } from "../format.ts";
import { Latest } from "../latest.ts";
import type { Protein } from "./model.ts";
import type { Point } from "./viewport.ts";

const WAIT = 70; // milliseconds before a protein is asked for
const WIDTH = 240; // CSS pixels at most, of the tooltip
const HEIGHT = 90;
const MOST_KEPT = 5_000; // proteins

export class Pointed {
  readonly tip = h("div", { class: "tip", hidden: true });
  readonly spoken = h("p", { class: "offscreen", "aria-live": "polite" });
  private readonly context: Context;
  private readonly asking: Latest;
  private readonly proteins = new Map<number, Protein>();
  private key: number | null = null;

  constructor(context: Context) {
    this.context = context;
    this.asking = new Latest(context.signal);
  }

  /** Show the tooltip of a protein beside a pixel of the map; with `spoken`, also to screen readers. */
  async show(key: number, [x, y]: Point, size: { width: number; height: number }, spoken: boolean): Promise<void> {
    if (key === this.key) return;
    this.key = key;
    try {
      const protein = await this.asking.run((signal) => this.soon(key, signal));
      if (!protein || key !== this.key) return;
      const lines = facts(protein);
      const name = h("strong", {}, h("bdi", {}, printable(protein.id)));
      this.tip.replaceChildren(name, ...lines.map((line) => h("span", {}, line)));
      const isLeft = x > size.width - WIDTH;
      this.tip.style.left = isLeft ? "auto" : `${x + 14}px`;
      this.tip.style.right = isLeft ? `${size.width - x + 14}px` : "auto";
      this.tip.style.top = `${Math.max(4, Math.min(size.height - HEIGHT, y + 10))}px`;
      this.tip.hidden = false;
      if (spoken) this.spoken.textContent = `${printable(protein.id)}, ${lines.join(", ")}`;
    } catch {
      this.hide(); // the next movement of the pointer asks again
    }
  }

  hide(): void {
    this.key = null;
    this.tip.hidden = true;
  }

  /** Return the protein of a point. */
  async protein(key: number, signal: AbortSignal): Promise<Protein> {
    const known = this.proteins.get(key);
    if (known) return known;
    const found = await this.context.api.json<Protein>("v1/explore/point", { query: { key }, signal });
    if (this.proteins.size >= MOST_KEPT) this.proteins.clear();
    this.proteins.set(key, found);
    return found;
  }

  private async soon(key: number, signal: AbortSignal): Promise<Protein | null> {
    if (!this.proteins.has(key)) await new Promise((done) => setTimeout(done, WAIT));
    return signal.aborted ? null : this.protein(key, signal);
  }
}

/** Return what a tooltip has about a protein. */
export function facts(protein: Protein): string[] {
  const found = [`${count(protein.length)} residues`, `pLDDT ${decimals(protein.mean_plddt, 1)}`];
  if (protein.ptm !== null) found.push(`pTM ${decimals(protein.ptm, 2)}`);
  if (protein.nearest_structure)
    found.push(`nearest known ${printable(protein.nearest_structure)}, TM ${decimals(protein.tm_query, 2)}`);
  else if (protein.tm_query === 0) found.push("no known structure found");
  return found;
}
