"""Scores of one structure against one experimental chain, as a row of the table.

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS), P pairs of residues.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare import superposition
from foldatlas.folding.compare.contact_precision import c_betas, contact_precision, distances
from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.compare.lddt import lddt_all_atom, lddt_ca

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

CA = 1  # index in atom14


@dataclass(slots=True)
class Row:
    """The result of one chain and model.

    Scores are 0 to 1, except `rmsd` (angstrom), `mean_plddt` (0 to 100) and `perplexity` (1 or more). A score that is
    not defined is None; `failure` is the reason if there is no structure. `kind` is "model" or "baseline". `num_gaps`
    is the number of jumps in the author's numbering: the residues before and after a gap were predicted as neighbours.
    `plddt_L` (0 to 100) and `lddt_ca_L` (0 to 1, NaN for a residue without distances) are the values of each residue.
    """

    chain: str
    split: str
    cluster: str
    model: str
    kind: str
    length: int
    num_gaps: int
    tm_score: float | None = None
    gdt_ts: float | None = None
    gdt_ha: float | None = None
    rmsd: float | None = None
    lddt: float | None = None
    lddt_ca: float | None = None
    contact_precision: float | None = None
    contact_precision_distogram: float | None = None
    mean_plddt: float | None = None
    ptm: float | None = None
    perplexity: float | None = None
    perplexity_residues: int | None = None
    failure: str | None = None
    plddt_L: Floats | None = field(default=None, repr=False)
    lddt_ca_L: Floats | None = field(default=None, repr=False)


def empty_row(chain: Chain, model: str, kind: str) -> Row:
    return Row(chain.name, chain.split, chain.cluster, model, kind, len(chain.sequence), num_gaps(chain))


def num_gaps(chain: Chain) -> int:
    """Return the number of consecutive residues whose numbers, by the author, differ by more than one."""
    return int((np.diff(chain.residue_index_L) > 1).sum())


def measure(row: Row, chain: Chain, positions_LA3: Floats, *, has_side_chains: bool) -> None:
    """Set the scores in `row` of a structure with the length of `chain`, in atom14 order, NaN where it has no atom.

    TM-score, GDT and RMSD use the observed C-alphas. One that the structure lacks (in a baseline) adds 0 to TM-score
    and GDT, and is excluded from RMSD. All-atom lDDT is computed only if `has_side_chains`, since a structure of
    another sequence has other atoms.
    """
    paired_L = chain.observed_LA[:, CA] & np.isfinite(positions_LA3[:, CA]).all(axis=1)
    if not paired_L.any():
        row.failure = "no C-alpha of the chain was observed"
        return
    predicted_P3, reference_P3 = positions_LA3[paired_L, CA], chain.positions_LA3[paired_L, CA]
    length = int(chain.observed_LA[:, CA].sum())
    row.tm_score = superposition.tm_score(predicted_P3, reference_P3, length)
    fractions = superposition.fractions_within(predicted_P3, reference_P3, _CUTOFFS, length)
    row.gdt_ts, row.gdt_ha = float(fractions[1:].mean()), float(fractions[:-1].mean())
    row.rmsd = superposition.rmsd(predicted_P3, reference_P3)
    c_alpha_lddt = lddt_ca(positions_LA3[:, CA], chain.positions_LA3[:, CA], chain.observed_LA[:, CA])
    row.lddt_ca, row.lddt_ca_L = _or_none(c_alpha_lddt.score), c_alpha_lddt.per_residue_L
    if has_side_chains:
        row.lddt = _or_none(lddt_all_atom(chain.sequence, positions_LA3, chain.positions_LA3, chain.observed_LA).score)
    reference_L3, observed_L = c_betas(chain.sequence, chain.positions_LA3, chain.observed_LA)
    exists_LA = np.isfinite(positions_LA3[..., 0])
    predicted_L3, predicted_L = c_betas(chain.sequence, positions_LA3, exists_LA)
    # A structure of another sequence may have glycine here: its C-alpha is used.
    predicted_L3 = np.where(predicted_L[:, np.newaxis], predicted_L3, positions_LA3[:, CA])
    near_LL = -np.nan_to_num(distances(predicted_L3), nan=np.inf)
    row.contact_precision = _or_none(contact_precision(near_LL, reference_L3, observed_L))


# GDT-HA has the first four, GDT-TS the last four.
_CUTOFFS = (0.5, 1.0, 2.0, 4.0, 8.0)


def measure_distogram(row: Row, chain: Chain, probability_LL: Floats) -> None:
    """Set the contact precision in `row` of contacts ranked by the distogram."""
    reference_L3, observed_L = c_betas(chain.sequence, chain.positions_LA3, chain.observed_LA)
    row.contact_precision_distogram = _or_none(contact_precision(probability_LL, reference_L3, observed_L))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
