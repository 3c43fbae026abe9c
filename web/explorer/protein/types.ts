// What the server answers about a protein (atlas/serve/http/protein_page.py). null: not known, not searched, or no hit.

export type Verdict = "known" | "novel" | "dark" | "unclear" | "not_searched";

export interface Hit {
  search: "structures" | "sequences";
  completed: string;
  reference: string;
  version: number;
  is_demonstration: boolean;
  is_latest: boolean;
  state: "hit" | "searched" | "not_searched";
  reason: string | null;
  target: string | null;
  title: string | null;
  licence: string | null;
  novelty_source: string | null;
  identity: number | null;
  tm_query?: number | null;
  tm_target?: number | null;
  rmsd?: number | null;
  aligned_length?: number | null;
  coverage?: number | null;
  evalue?: number | null;
}

export interface Cluster {
  level: "identity90" | "identity30" | "structure";
  cluster: string;
  id: string | null;
  num_structures: number;
  num_proteins: number;
  length: number | null;
  mean_plddt: number | null;
  members_mean_plddt: number | null;
  is_representative: boolean;
}

/** A row of `proteins`, of which tables of other proteins show some columns. */
export interface Row {
  id: string;
  structure_id: string;
  description?: string | null;
  length: number;
  mean_plddt: number | null;
  ptm: number | null;
  tm_query: number | null;
  nearest_structure: string | null;
}

export interface Annotation {
  name: string;
  file: string;
  columns: string[];
  ids: string[];
  rows: (string | null)[][];
  is_cut: boolean;
}

export interface Protein {
  id: string;
  description: string | null;
  structure_id: string;
  records: {
    id: string;
    source: string;
    description: string | null;
    mgyp: number | null;
    is_fragment: boolean | null;
  }[];
  num_records: number;
  length: number;
  mean_plddt: number | null;
  fraction_very_high: number | null;
  fraction_confident: number | null;
  fraction_low: number | null;
  fraction_very_low: number | null;
  ptm: number | null;
  radius_of_gyration: number | null;
  helix_fraction: number | null;
  strand_fraction: number | null;
  num_unknown: number | null;
  tm_query: number | null;
  nearest_structure: string | null;
  identity_max: number | null;
  nearest_sequence: string | null;
  sequence: string;
  plddt: (number | null)[];
  verdict: Verdict;
  verdict_reason: string;
  hits: Hit[];
  clusters: Cluster[];
  provenance: Record<string, string | number | null>;
  annotations: Annotation[];
  neighbours: { method: string; features: string; items: (Row & { distance: number })[] } | null;
  has_pae: boolean;
  citation: { text: string; bibtex: string };
}

export interface Superposed {
  target: string;
  title: string;
  licence: string;
  length: number;
  sequence: string;
  reference: string;
  version: number;
  is_demonstration: boolean;
  tm_query: number;
  tm_target: number;
  tm_confident: number | null;
  rmsd: number;
  aligned_length: number;
  identity: number;
  placed_by: "search" | "representative";
  /** Blocks without gaps: first residue of the protein and of the target, from 0, and their number. */
  alignment: [number, number, number][];
  c_alphas: ([number, number, number] | null)[];
}
