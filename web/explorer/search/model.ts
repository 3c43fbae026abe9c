// What the routes of searches answer; docs/api.md describes them.

export interface Hit {
  readonly rank: number;
  readonly structure_id: string;
  readonly id: string;
  readonly description: string | null;
  readonly length: number;
  readonly mean_plddt: number | null;
  readonly ptm: number | null;
  readonly identity: number | null;
  readonly coverage: number | null;
  readonly evalue: number | null;
  readonly tm_query: number | null;
  readonly rmsd: number | null;
  readonly similarity: number | null;
}

export interface Job {
  readonly id: string;
  readonly kind: "sequence" | "structure" | "embedding";
  readonly state: "waiting" | "running" | "done" | "failed" | "cancelled";
  readonly phase: string | null;
  readonly fraction: number;
  readonly detail: string | null;
  /** The structure with exactly the sequence that is searched for. */
  readonly exact: string | null;
  readonly query_length: number | null;
  readonly searched: number | null;
  readonly num_hits: number | null;
  readonly hits: readonly Hit[];
  readonly next: number | null;
}
