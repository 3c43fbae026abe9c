// The structure in 3D, by 3Dmol.js (Rego & Koes 2015), with the nearest known structure superposed.
import type { AtomSpec, GLModel, GLViewer } from "3dmol";
import { button, h } from "../dom.ts";
import { decimals } from "../format.ts";
import { colourOf, FADED, FIRST, KNOWN, NO_PLDDT, type PaletteName, SECOND, SPECTRUM } from "./colours.ts";
import { type Focus, isIn } from "./focus.ts";
import type { Overlay } from "./overlay.ts";
import { residueName } from "./text.ts";
import type { Protein } from "./types.ts";

export type Colouring = PaletteName | "chain";
export const STYLES = { ribbon: "Ribbon", sticks: "Ribbon and sticks", atoms: "Sticks", trace: "Chain trace" } as const;
export type StyleName = keyof typeof STYLES;

const TURN = 15; // degrees
const ZOOM = 1.2;
const MOST_STICKS = 3_000; // residues: more of them make the page slow
const WAYS: Record<string, (view: GLViewer) => void> = {
  ArrowLeft: (view) => view.rotate(-TURN, "y"),
  ArrowRight: (view) => view.rotate(TURN, "y"),
  ArrowUp: (view) => view.rotate(-TURN, "x"),
  ArrowDown: (view) => view.rotate(TURN, "x"),
  "+": (view) => view.zoom(ZOOM),
  "-": (view) => view.zoom(1 / ZOOM),
};

export function hasWebGL(): boolean {
  try {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("webgl2") ?? canvas.getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers limit how many there are
    return context !== null;
  } catch {
    return false;
  }
}

export class StructureView {
  readonly box: HTMLElement;
  readonly readout: HTMLOutputElement;
  private readonly view: GLViewer;
  private readonly protein: Protein;
  private readonly focus: Focus;
  private colouring: Colouring = "alphafold";
  private style: StyleName = "ribbon";
  private hasRibbon = true;
  private other: GLModel | null = null;
  private marker: ReturnType<GLViewer["addSphere"]> | null = null;

  private constructor(view: GLViewer, box: HTMLElement, protein: Protein, focus: Focus) {
    this.view = view;
    this.box = box;
    this.protein = protein;
    this.focus = focus;
    this.readout = h("output", { class: "p-readout", "aria-live": "polite" });
  }

  /** Show a structure, given as PDB or mmCIF, in `box`. Rejects where there is no WebGL. */
  static async open(
    box: HTMLElement,
    structure: { text: string; format: "pdb" | "cif" },
    protein: Protein,
    focus: Focus,
    signal: AbortSignal,
  ): Promise<StructureView> {
    if (!hasWebGL()) throw new Error("3D needs WebGL, which this browser has not, or has switched off.");
    const { createViewer } = await import("3dmol");
    signal.throwIfAborted();
    const view = createViewer(box, { backgroundAlpha: 0, antialias: true, hoverDuration: 60 } as object);
    if (!view) throw new Error("The browser did not start WebGL.");
    const shown = new StructureView(view, box, protein, focus);
    shown.load(structure.text, structure.format);
    shown.listen(signal);
    return shown;
  }

  private load(text: string, format: string): void {
    const model = this.view.addModel(text, format);
    const atoms = model.selectedAtoms({});
    const ends = atoms.filter((atom) => atom.atom === "O").length;
    this.hasRibbon = 2 * ends > this.protein.length; // a trace of C-alphas has no ribbon
    this.restyle();
    this.fit({ model: 0 });
    this.view.setHoverable({ model: 0 }, true, this.hover, this.leave);
    this.view.setClickable({ model: 0 }, true, (atom: AtomSpec) => {
      const residue = (atom.resi ?? 1) - 1;
      this.focus.select({ first: [residue, residue] });
    });
    this.view.render();
  }

  private readonly hover = (atom: AtomSpec): void => this.focus.point((atom.resi ?? 1) - 1, this);
  private readonly leave = (): void => this.focus.point(null, this);

  private listen(signal: AbortSignal): void {
    this.focus.whenPointed((residue) => this.mark(residue));
    this.focus.whenSelected(() => {
      this.restyle();
      this.view.render();
    });
    this.box.addEventListener("keydown", (event) => {
      const way = WAYS[event.key === "=" ? "+" : event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.turn(way);
    });
    const observer = new ResizeObserver(() => this.view.resize());
    observer.observe(this.box);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      this.view.spin(false);
      const canvas = this.box.querySelector("canvas");
      (canvas?.getContext("webgl2") ?? canvas?.getContext("webgl"))?.getExtension("WEBGL_lose_context")?.loseContext();
    });
  }

  private turn(way: (view: GLViewer) => void): void {
    way(this.view);
    this.view.render();
  }

  /** Return buttons that turn and zoom, for those who use no mouse and no keyboard. */
  tools(): HTMLElement[] {
    const start = this.view.getView();
    const spin = button(
      "Spin",
      () => {
        const on = spin.getAttribute("aria-pressed") !== "true";
        spin.setAttribute("aria-pressed", String(on));
        this.view.spin(on ? "y" : false, 0.5);
      },
      { "aria-pressed": "false" },
    );
    return [
      button("−", () => this.turn(WAYS["-"]!), { "aria-label": "Zoom out" }),
      button("+", () => this.turn(WAYS["+"]!), { "aria-label": "Zoom in" }),
      button("⟲", () => this.turn(WAYS["ArrowLeft"]!), { "aria-label": "Turn left" }),
      button("⟳", () => this.turn(WAYS["ArrowRight"]!), { "aria-label": "Turn right" }),
      spin,
      button("Reset", () => {
        this.view.setView(start);
        this.view.render();
      }),
    ];
  }

  setColouring(colouring: Colouring): void {
    this.colouring = colouring;
    this.restyle();
    this.view.render();
  }

  setStyle(style: StyleName): void {
    this.style = style;
    this.restyle();
    this.view.render();
  }

  zoomToSelection(): void {
    const { selection } = this.focus;
    const ranges = selection ? [selection.first, ...(selection.second ? [selection.second] : [])] : [];
    const resi = ranges.map(([from, to]) => `${from + 1}-${to + 1}` as const);
    this.fit(ranges.length ? { model: 0, resi } : { model: 0 });
    this.view.render();
  }

  /** Zoom to residues: 3Dmol.js fits them to the height of the view, which can be narrower than high. */
  private fit(selection: Parameters<GLViewer["zoomTo"]>[0]): void {
    const { clientWidth, clientHeight } = this.box;
    this.view.zoomTo(selection);
    this.view.zoom(Math.min(1.1, (1.1 * clientWidth) / Math.max(1, clientHeight)));
  }

  /** Show a structure superposed, in place of the one before. */
  superpose({ text, isTrace }: Overlay): void {
    if (this.other) this.view.removeModel(this.other);
    this.other = this.view.addModel(text, "pdb");
    const shape = isTrace ? { style: "trace", thickness: 0.4 } : { arrows: true };
    this.other.setStyle({}, { cartoon: { ...shape, color: KNOWN, opacity: 0.85 } } as object);
    this.view.render();
  }

  showOther(on: boolean): void {
    if (on) this.other?.show();
    else this.other?.hide();
    this.view.render();
  }

  /** Return what is shown as a PNG, as a data URL. */
  png(): string {
    return this.view.pngURI();
  }

  private restyle(): void {
    const { protein } = this;
    const colorfunc = (atom: AtomSpec) => this.colour((atom.resi ?? 1) - 1);
    const ribbon =
      this.hasRibbon && this.style !== "trace"
        ? { colorfunc, arrows: true }
        : { colorfunc, style: "trace", thickness: 0.5 };
    const sticks = { colorfunc, radius: 0.15 };
    const wantsSticks = (this.style === "sticks" || this.style === "atoms") && protein.length <= MOST_STICKS;
    const style =
      this.style === "atoms" && wantsSticks
        ? { stick: sticks }
        : { cartoon: ribbon, ...(wantsSticks ? { stick: sticks } : {}) };
    this.view.setStyle({ model: 0 }, style as object);
  }

  private colour(residue: number): string {
    const { selection } = this.focus;
    if (selection) {
      if (isIn(residue, selection.first)) return FIRST;
      return isIn(residue, selection.second) ? SECOND : FADED;
    }
    if (this.colouring !== "chain") return colourOf(this.protein.plddt[residue], this.colouring) ?? NO_PLDDT;
    const place = (residue / Math.max(1, this.protein.length - 1)) * (SPECTRUM.length - 1);
    return mixed(
      SPECTRUM[Math.floor(place)]!,
      SPECTRUM[Math.min(SPECTRUM.length - 1, Math.floor(place) + 1)]!,
      place % 1,
    );
  }

  private mark(residue: number | null): void {
    if (this.marker) this.view.removeShape(this.marker);
    this.marker = null;
    if (residue !== null) {
      const [atom] = this.view.getModel(0).selectedAtoms({ resi: residue + 1, atom: "CA" });
      if (atom) {
        const center = { x: atom.x ?? 0, y: atom.y ?? 0, z: atom.z ?? 0 };
        this.marker = this.view.addSphere({ center, radius: 1.6, color: "#e3008c", opacity: 0.75 });
      }
    }
    this.readout.value = residue === null ? "" : describe(this.protein, residue);
    this.view.render();
  }
}

/** Return a residue with its pLDDT, `Lys 42: pLDDT 93.1`. */
export function describe(protein: Protein, residue: number): string {
  const plddt = protein.plddt[residue] ?? null;
  const value = plddt === null ? "no pLDDT" : `pLDDT ${decimals(plddt, 1)}`;
  return `${residueName(protein.sequence, residue)}: ${value}`;
}

function mixed(one: string, other: string, share: number): string {
  const parts = (colour: string) => [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  const [from, to] = [parts(one), parts(other)];
  return `#${from
    .map((value, n) =>
      Math.round(value + (to[n]! - value) * share)
        .toString(16)
        .padStart(2, "0"),
    )
    .join("")}`;
}
