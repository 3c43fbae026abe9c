"""One structure against one experimental chain: every measure of it, and a row for the table.

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

CA = 1  # place in atom14


@dataclass(slots=True)
class Row:
    """What became of one chain and model. Scores are 0 to 1 but for `rmsd` (angstrom), `mean_plddt` (0 to 100) and
    `perplexity` (1 or more); None where there is none, and `failure` says why a whole structure is missing.

    `kind` is "model" or "baseline". `num_gaps` counts the places where the author's numbering jumps: the chain was
    predicted as if its residues there were neighbours. `plddt_L` (0 to 100) and `lddt_ca_L` (0 to 1, NaN for a residue
    without distances) are each residue's.
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
    """Places where the author's numbers of two residues in a row are more than one apart."""
    return int((np.diff(chain.residue_index_L) > 1).sum())


def measure(row: Row, chain: Chain, positions_LA3: Floats, *, has_side_chains: bool) -> None:
    """Fills the measures of `row` for a structure of `chain`'s length in atom14 order, NaN where it has no atom.

    TM-score, GDT and RMSD are of the C-alphas that were observed. A structure that lacks one of these (a baseline may)
    gets nothing for it in TM-score and GDT, and RMSD leaves it out. lDDT of all atoms only where `has_side_chains`: a
    structure of another sequence has other atoms.
    """
    seen_L = chain.observed_LA[:, CA] & np.isfinite(positions_LA3[:, CA]).all(axis=1)
    if not seen_L.any():
        row.failure = "no C-alpha of the chain was observed"
        return
    predicted_P3, reference_P3 = positions_LA3[seen_L, CA], chain.positions_LA3[seen_L, CA]
    length = int(chain.observed_LA[:, CA].sum())
    row.tm_score = superposition.tm_score(predicted_P3, reference_P3, length)
    fractions = superposition.fractions_within(predicted_P3, reference_P3, _CUTOFFS, length)
    row.gdt_ts, row.gdt_ha = float(fractions[1:].mean()), float(fractions[:-1].mean())
    row.rmsd = superposition.rmsd(predicted_P3, reference_P3)
    of_c_alphas = lddt_ca(positions_LA3[:, CA], chain.positions_LA3[:, CA], chain.observed_LA[:, CA])
    row.lddt_ca, row.lddt_ca_L = _or_none(of_c_alphas.score), of_c_alphas.per_residue_L
    if has_side_chains:
        row.lddt = _or_none(lddt_all_atom(chain.sequence, positions_LA3, chain.positions_LA3, chain.observed_LA).score)
    reference_L3, observed_L = c_betas(chain.sequence, chain.positions_LA3, chain.observed_LA)
    is_there_LA = np.isfinite(positions_LA3[..., 0])
    predicted_L3, predicted_L = c_betas(chain.sequence, positions_LA3, is_there_LA)
    # A structure of another sequence may have glycine here, whose C-alpha stands in.
    predicted_L3 = np.where(predicted_L[:, np.newaxis], predicted_L3, positions_LA3[:, CA])
    near_LL = -np.nan_to_num(distances(predicted_L3), nan=np.inf)
    row.contact_precision = _or_none(contact_precision(near_LL, reference_L3, observed_L))


# GDT-HA has the first four, GDT-TS the last four.
_CUTOFFS = (0.5, 1.0, 2.0, 4.0, 8.0)


def measure_distogram(row: Row, chain: Chain, probability_LL: Floats) -> None:
    """Fills the contact precision of a ranking by the distogram."""
    reference_L3, observed_L = c_betas(chain.sequence, chain.positions_LA3, chain.observed_LA)
    row.contact_precision_distogram = _or_none(contact_precision(probability_LL, reference_L3, observed_L))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
