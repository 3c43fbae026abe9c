"""A whole filter: fields of ProteinFilter, conditions of the explorer, and a mask of records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.serve.explore.conditions import Condition
from foldatlas.atlas.serve.explore.mask import RECORD_ROW
from foldatlas.atlas.serve.filters import Filter, ProteinFilter

# Fields of ProteinFilter on columns that the explorer's table has too.
_FAST: Final = {
    "min_length", "max_length", "min_plddt", "max_plddt", "min_ptm", "max_ptm", "min_fraction_confident", "min_tm",
    "max_tm", "min_identity", "max_identity", "high_confidence", "novel", "representative", "fragment",
}  # fmt: skip
_OF_MASK: Final = "get_bit(?::BLOB::BIT, {}::INTEGER) = 1"


@dataclass(frozen=True)
class Selected:
    """Conditions on proteins, all of which must hold. `where` is SQL that a person typed, and `mask` the records that
    meet it; `rows` is the relation of `proteins` with the row of each record (mask.py)."""

    filter: ProteinFilter
    conditions: Sequence[Condition] = ()
    where: str | None = None
    mask: bytes | None = None
    rows: str = ""

    @property
    def relation(self) -> str:
        """What `sql` is a condition on."""
        return "proteins" if self.mask is None else self.rows

    def sql(self) -> tuple[str, list[Any]]:
        """Return a condition on `relation` of the index, and its parameters."""
        parts = [f"({each})" for each in self._shown()]
        if self.mask is not None:
            parts.append(_OF_MASK.format(RECORD_ROW))
        return " AND ".join(parts) or "true", [self.mask] if self.mask is not None else []

    @property
    def simplest(self) -> Filter:
        """The same filter, as a ProteinFilter if it is no more than that."""
        return self if self.conditions or self.mask is not None else self.filter

    def fast(self, mask_of: Callable[[str], bytes]) -> tuple[str, list[Any]]:
        """Return a condition on the explorer's table, and its parameters. `mask_of` evaluates what it lacks."""
        fields = self.filter.conditions()
        parts = [f"({sql})" for name, sql in fields.items() if name in _FAST]
        parts += [f"({each.fast})" for each in self.conditions if each.fast is not None]
        slow = [sql for name, sql in fields.items() if name not in _FAST]
        slow += [each.shown for each in self.conditions if each.fast is None]
        masks = [mask_of(" AND ".join(f"({each})" for each in slow))] if slow else []
        if self.mask is not None:
            masks.append(self.mask)
        parts += [_OF_MASK.format("key")] * len(masks)
        return " AND ".join(parts) or "true", list(masks)

    def statement(self) -> str:
        """Return the SELECT that a person may run on the index for the same proteins."""
        parts = list(self._shown())
        if self.where is not None:
            parts.append(self.where.strip())
        if not parts:
            return "SELECT * FROM proteins"
        if len(parts) == 1 and self.where is None:
            return f"SELECT * FROM proteins WHERE {parts[0]}"
        return "SELECT * FROM proteins WHERE " + " AND ".join(
            f"(\n{each}\n)" if "--" in each else f"({each})" for each in parts
        )

    def _shown(self) -> list[str]:
        return [*self.filter.conditions().values(), *(each.shown for each in self.conditions)]
