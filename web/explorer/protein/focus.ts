// Which residues the user points at and has selected, shared by the views of a page. Residues count from 0.

/** First and last residue. */
export type Range = readonly [number, number];

/** Residues that are selected: those of `second` are the columns of a part of the matrix of aligned errors. */
export interface Selection {
  readonly first: Range;
  readonly second?: Range;
}

export class Focus {
  readonly length: number;
  private pointed: number | null = null;
  private selected: Selection | null = null;
  private readonly onPoint: ((residue: number | null, source: object | null) => void)[] = [];
  private readonly onSelect: ((selection: Selection | null) => void)[] = [];

  constructor(length: number) {
    this.length = length;
  }

  get residue(): number | null {
    return this.pointed;
  }

  get selection(): Selection | null {
    return this.selected;
  }

  /** Call `listener` when another residue is pointed at; `source` is the view in which it was. */
  whenPointed(listener: (residue: number | null, source: object | null) => void): void {
    this.onPoint.push(listener);
  }

  whenSelected(listener: (selection: Selection | null) => void): void {
    this.onSelect.push(listener);
  }

  point(residue: number | null, source: object | null = null): void {
    if (residue === this.pointed) return;
    this.pointed = residue;
    for (const listener of this.onPoint) listener(residue, source);
  }

  /** Select residues, in either order; null selects none. */
  select(selection: Selection | null): void {
    this.selected = selection && {
      first: this.inside(selection.first),
      ...(selection.second ? { second: this.inside(selection.second) } : {}),
    };
    for (const listener of this.onSelect) listener(this.selected);
  }

  private inside([one, other]: Range): Range {
    const within = (value: number) => Math.max(0, Math.min(this.length - 1, value));
    return [within(Math.min(one, other)), within(Math.max(one, other))];
  }
}

export function isIn(residue: number, range: Range | undefined): boolean {
  return range !== undefined && residue >= range[0] && residue <= range[1];
}

/** Return how many residues are selected, each once. */
export function countSelected({ first, second }: Selection): number {
  const size = ([from, to]: Range) => to - from + 1;
  if (!second) return size(first);
  const shared = Math.min(first[1], second[1]) - Math.max(first[0], second[0]) + 1;
  return size(first) + size(second) - Math.max(0, shared);
}
