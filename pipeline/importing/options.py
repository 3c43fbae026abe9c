"""How structure files are read: the same for every file of a run."""

import hashlib
import re
from dataclasses import asdict, dataclass

import msgspec

from foldatlas.atlas.importing.structure_text import ReadOptions
from foldatlas.schemas.errors import UsageError

HEADER = "header"  # of `--id-from`: the id that the file states


@dataclass(frozen=True)
class ImportOptions:
    """What affects the result of reading a file.

    chain, plddt_scale, experimental: as in structure_text.ReadOptions.
    id_from: a pattern that finds the id in the file's name, HEADER, or None for the name without its endings.
    model, licence: recorded where the file states none; None for unknown.
    max_length: longer chains are refused (residues).
    confidence: whether PAE is stored, and the JSON file beside a structure read.
    """

    chain: str | None = None
    plddt_scale: int | None = None
    experimental: bool = False
    id_from: str | None = None
    model: str | None = None
    licence: str | None = None
    max_length: int = 65_534
    confidence: bool = True

    def check(self) -> None:
        """Raise UsageError for options that contradict each other, or a pattern that is not valid."""
        if self.experimental and self.plddt_scale is not None:
            raise UsageError("--experimental states that B-factors are not pLDDT: omit it or --plddt-scale")
        for name, value in (("--model", self.model), ("--licence", self.licence), ("--chain", self.chain)):
            if value is not None and (not value.strip() or not value.isprintable()):
                raise UsageError(f"{name} {value!r}: give a line of text")
        if self.id_from is not None and self.id_from != HEADER:
            try:
                pattern = re.compile(self.id_from)
            except re.error as error:
                raise UsageError(f"--id-from {self.id_from}: not a regular expression ({error})") from error
            if pattern.groups > 1:
                raise UsageError(f"--id-from {self.id_from} has {pattern.groups} groups: the id is the only group")

    @property
    def read(self) -> ReadOptions:
        return ReadOptions(self.chain, self.plddt_scale, self.experimental)

    @property
    def digest(self) -> str:
        """The digest of the options, "" for the defaults. Files that are read in another way are another version."""
        if self == ImportOptions():
            return ""
        stated = asdict(self)
        if self.confidence:
            del stated["confidence"]  # as in digests of programs that did not have it
        return hashlib.sha256(msgspec.json.encode(stated, order="deterministic")).hexdigest()

    @property
    def reads_beside(self) -> bool:
        """Whether the JSON file beside a structure is read: experiments have none."""
        return self.confidence and not self.experimental
