"""Foldcomp files (.fcz, 13 bytes per residue, lossy; Kim, Mirdita and Steinegger 2023), each decoded and compared.

Foldcomp stores torsion angles and rebuilds atoms from ideal geometry. It aborts the process on some structures, invents
missing atoms, and silently returns other coordinates for a backbone that is not protein-like. It therefore runs in a
separate process, on complete chains of standard residues only, and its result is compared with the input.
"""

import contextlib
import importlib.util
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.writers.chains import Structure, chains_of
from foldatlas.atlas.writers.foldcomp_child import READY, receive, send
from foldatlas.atlas.writers.pdb_files import pdb_text, printable_ascii
from foldatlas.schemas.errors import UsageError, WorkerDied
from foldatlas.schemas.records import STANDARD_RESIDUES

MAX_RMSD: Final = 0.5  # angstrom, all atoms, without superposition; about 0.1 for protein-like structures
MAX_PLDDT_ERROR: Final = 0.5  # foldcomp stores 256 steps between the lowest and the highest of a chain
MIN_RESIDUES: Final = 2  # foldcomp cannot decode a file of one residue
TIMEOUT: Final = 60.0  # seconds for one structure, which normally takes a millisecond

_ATOM: Final = np.dtype(
    {
        "names": ["atom", "x", "y", "z", "plddt"],  # atom: its name, residue, chain and number
        "formats": ["S14", "S8", "S8", "S8", "S6"],
        "offsets": [12, 30, 38, 46, 60],
        "itemsize": 80,
    }
)


class FoldcompWriter:
    """Writes Foldcomp files by a child process, which is started at the first file and after each crash."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        if importlib.util.find_spec("foldcomp") is None:
            raise UsageError("Foldcomp files need the package foldcomp: pip install 'foldatlas[foldcomp]'")
        self._timeout = timeout
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "FoldcompWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def fcz_bytes(
        self,
        structure: Structure,
        *,
        name: str,
        model: str | None,
        mean_plddt: float | None,
        ptm: float | None,
        chain_lengths: Sequence[int] | None = None,
    ) -> bytes:
        """Return the Foldcomp file of `structure`: name, sequence, coordinates and pLDDT, without the other values.

        Raise UsageError, with the reason, for several chains, unknown residues, missing atoms or pLDDT, a crash, and
        decoded coordinates or pLDDT that differ by more than MAX_RMSD or MAX_PLDDT_ERROR. Raise WorkerDied if foldcomp
        cannot be loaded.
        """
        chains = chains_of(structure, chain_lengths)
        if len(chains.lengths) > 1:
            raise UsageError(f"a Foldcomp file has one chain, this structure {len(chains.lengths)}: write it as cif")
        if unknown := sorted(set(chains.sequence) - set(STANDARD_RESIDUES)):
            raise UsageError(f"Foldcomp supports only standard residues, not {', '.join(unknown)}: write it as cif")
        if chains.num_absent:
            raise UsageError(f"Foldcomp would invent {chains.num_absent} missing atoms: write it as cif")
        if missing := int((~chains.has_plddt).sum()):
            raise UsageError(f"Foldcomp would state a pLDDT of 0 for {missing} residues without one: write it as cif")
        if len(chains.sequence) < MIN_RESIDUES:
            raise UsageError(
                f"Foldcomp needs at least {MIN_RESIDUES} residues, this structure has one: write it as cif"
            )
        text = pdb_text(structure, name=name, model=model, mean_plddt=mean_plddt, ptm=ptm)
        compressed, back = self._ask(printable_ascii(name), text)
        if not compressed:
            raise UsageError(f"foldcomp failed ({back.decode(errors='replace')}): write it as cif")
        try:
            _compare(text, back.decode())
        except UsageError:
            raise
        except ValueError as error:  # not PDB text
            raise UsageError(f"foldcomp's result cannot be read ({error}): write it as cif") from error
        return compressed

    def _ask(self, name: str, text: str) -> tuple[bytes, bytes]:
        child = self._child or self._start()
        requests, answers = _pipe(child.stdin), _pipe(child.stdout)
        late = threading.Event()

        def stop_late() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._timeout, stop_late)
        timer.start()
        try:
            send(requests, name.encode(), text.encode())
            return receive(answers), receive(answers)
        except (EOFError, BrokenPipeError):
            code = child.wait()
            if late.is_set():
                raise UsageError(f"foldcomp took more than {self._timeout:g} s: write it as cif") from None
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise UsageError(f"foldcomp crashed ({how}): write it as cif") from None
        finally:
            timer.cancel()
            timer.join()
            if late.is_set() or sys.exception() is not None:
                self._stop()  # its pipes may still contain data of this request

    def _start(self) -> subprocess.Popen[bytes]:
        # in a new session: Ctrl-C interrupts the export, which then ends the child
        self._child = subprocess.Popen(
            [sys.executable, "-m", "foldatlas.atlas.writers.foldcomp_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert receive(_pipe(self._child.stdout)) == READY
        except EOFError:
            code = self._child.wait()
            self._stop()
            raise WorkerDied(
                f"foldcomp cannot be started (exit code {code}): try `{sys.executable} -c 'import foldcomp'`"
            ) from None
        return self._child

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        _pipe(child.stdout).close()
        with contextlib.suppress(BrokenPipeError):  # of data that it has not read
            _pipe(child.stdin).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _compare(text: str, back: str) -> None:
    """Raise UsageError unless the PDB text `back` has the atoms of `text` at the same positions."""
    given, got = _atoms(text), _atoms(back)
    if not np.array_equal(given["atom"], got["atom"]):
        raise UsageError("foldcomp returned other atoms: write it as cif")
    distances = np.stack([given[axis].astype(float) - got[axis].astype(float) for axis in "xyz"])
    rmsd = float(np.sqrt((distances**2).sum(axis=0).mean()))
    plddt_error = float(np.abs(given["plddt"].astype(float) - got["plddt"].astype(float)).max())
    if not rmsd <= MAX_RMSD:
        raise UsageError(
            f"foldcomp returned coordinates with an RMSD of {rmsd:.2f} A (limit {MAX_RMSD} A): the backbone is not "
            "protein-like; write it as cif"
        )
    if not plddt_error <= MAX_PLDDT_ERROR:
        raise UsageError(f"foldcomp returned pLDDT off by {plddt_error:.2f} (limit {MAX_PLDDT_ERROR}): write it as cif")


def _atoms(text: str) -> npt.NDArray[Any]:
    """Return the ATOM records of a PDB text as a structured array, sorted by atom name, residue, chain and number."""
    lines = "".join(line[:80].ljust(80) for line in text.splitlines() if line.startswith("ATOM  "))
    atoms = np.frombuffer(lines.encode("ascii"), _ATOM)
    return atoms[np.argsort(atoms["atom"])]
