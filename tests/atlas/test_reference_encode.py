"""Secondary structure as a reference stores it, against plain loops over TM-align's definition."""

import subprocess
import sys

import numpy as np

from foldatlas.atlas.reference.encode import secondary_structure
from foldatlas.atlas.reference.reader import Reference

# Ideal distances in angstrom of residues four, three and two apart, and the tolerance (Zhang and Skolnick 2005).
HELIX, STRAND = (6.37, 5.18, 5.45, 2.1), (13.0, 10.4, 6.1, 1.42)


def assigned(points: np.ndarray) -> str:
    letters = ["C"] * len(points)
    for middle in range(2, len(points) - 2):
        five = points[middle - 2 : middle + 3].astype(np.float64)
        pairs = [(i, j, float(np.linalg.norm(five[i] - five[j]))) for i in range(5) for j in range(i + 2, 5)]
        for letter, (*ideal, tolerance) in (("H", HELIX), ("E", STRAND)):
            if all(abs(distance - ideal[4 - (j - i)]) < tolerance for i, j, distance in pairs):
                letters[middle] = letter
                break
        else:
            letters[middle] = "T" if np.linalg.norm(five[0] - five[4]) < 8.0 else "C"
    return "".join(letters)


def test_secondary_structure_is_that_of_plain_loops() -> None:
    """On every chain of the demo reference, and as the demo reference stores it."""
    found = Reference.open("demo")
    seen = set()
    for row in range(len(found)):
        part = slice(found.offsets[row], found.offsets[row + 1])
        letters = secondary_structure(found.c_alphas[part]).tobytes().decode()
        assert letters == assigned(found.c_alphas[part])
        assert letters.encode() == found.secondary[part].tobytes()
        seen |= set(letters)
    assert seen == set("CHTE")


def test_short_chain_is_coil() -> None:
    assert secondary_structure(np.zeros((4, 3), np.float32)).tobytes() == b"CCCC"


def test_numba_is_loaded_at_the_first_call_only() -> None:
    code = "import sys, foldatlas.atlas.reference.build, foldatlas.jobs.reference; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
