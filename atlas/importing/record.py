"""One structure as a reader of `foldatlas import` returns it, whatever its format."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.formats import NO_PLDDT

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file states about itself, "" for what it does not state.

    model       the model that predicted the structure ("AlphaFold Monomer v2.0", "nano")
    version     the version of the database or program
    licence     its licence ("CC-BY-4.0")
    origin      the database or program that wrote the file ("AlphaFold DB", "ESM Atlas", "FoldAtlas")
    """

    model: str = ""
    version: str = ""
    licence: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ImportedStructure:
    """One protein chain. Shapes: A atoms that an atlas stores (schemas.records.ATOMS), L residues.

    sequence        one-letter codes of `schemas.records.RESIDUES`
    positions       float32 [A, 3] angstrom, residue by residue in the order of `ATOMS`; NaN for a missing atom
    plddt           float32 [L] 0 to 100, NaN for a residue without one; None if the file has no pLDDT
    ptm             0 to 1; None if the file has no pTM
    pae             float32 [L, L] angstrom: the expected error of residue j (axis 1) when the predicted and true frames
                    of residue i (axis 0) are superposed; None without one
    pae_fault       the reason why the PAE of the file is not used; "" for PAE that is used, and without PAE
    identifier      the id that the file states, for `--id-from header`; "" without one
    title           one line of text about the protein; ""
    provenance      what the file states about itself
    chain           the author's name of the chain
    plddt_source    how pLDDT was recognised: a value of schemas.formats
    unobserved      residues without any atom

    The counts are of models in the file (the first was read), of breaks between residues that are neighbours in the
    sequence, of hydrogens, and of other atoms that an atlas does not store.
    """

    sequence: str
    positions: Floats
    plddt: Floats | None = None
    ptm: float | None = None
    pae: Floats | None = None
    pae_fault: str = ""
    identifier: str = ""
    title: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    chain: str = ""
    plddt_source: str = NO_PLDDT
    unobserved: int = 0
    models: int = 1
    breaks: int = 0
    hydrogens: int = 0
    other_atoms: int = 0

    @property
    def mean_plddt(self) -> float | None:
        """Mean pLDDT over the residues that have one, 0 to 100; None without any."""
        if self.plddt is None or np.isnan(self.plddt).all():
            return None
        return float(np.nanmean(self.plddt, dtype=np.float64))
