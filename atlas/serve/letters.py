"""A sequence as people send it."""

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import RESIDUES


def sequence_of(text: str, longest: int) -> str:
    """Return the sequence in letters or in one record of FASTA. Raise UsageError, also for more residues than
    `longest`."""
    lines = text.strip().splitlines()
    if lines and lines[0].startswith(">"):
        lines = lines[1:]
    sequence = "".join("".join(lines).split()).upper().removesuffix("*")
    wrong = next((number for number, letter in enumerate(sequence, 1) if letter not in RESIDUES), None)
    if wrong is not None:
        raise UsageError(f"letter {wrong} of the sequence is not a residue code: give one sequence of amino acids")
    if not sequence:
        raise UsageError("the sequence is empty")
    if len(sequence) > longest:
        raise UsageError(f"the sequence has {len(sequence):,} residues; at most {longest:,} are accepted")
    return sequence
