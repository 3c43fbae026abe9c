"""A whole filter: fields of ProteinFilter, conditions of the explorer, and a mask of what a person typed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.serve.explore.conditions import Condition
from foldatlas.atlas.serve.explore.mask import Mask
from foldatlas.atlas.serve.explore.regions import Polygon
from foldatlas.atlas.serve.filters import OF_BIT, OF_RECORDS, ProteinFilter

# Fields of ProteinFilter on columns that the explorer's table has too.
_FAST: Final = {
    "min_length", "max_length", "min_plddt", "max_plddt", "min_ptm", "max_ptm", "min_fraction_confident", "min_tm",
    "max_tm", "min_identity", "max_identity", "high_confidence", "novel", "representative", "fragment",
}  # fmt: skip


@dataclass(frozen=True)
class Selected:
    """Conditions on proteins, all of which must hold. `where` is SQL that a person typed, `mask` what meets it."""

    filter: ProteinFilter
    conditions: Sequence[Condition] = ()
    where: str | None = None
    mask: Mask | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there are no more conditions than those of `filter`."""
        return not self.conditions and self.mask is None

    @property
    def of_records(self) -> bool:
        """Whether one record of a structure may meet the conditions and another not."""
        return (
            not self.filter.conditions().keys().isdisjoint(OF_RECORDS)
            or any(each.of_records for each in self.conditions)
            or (self.mask is not None and self.mask.of_records)
        )

    def fast(self, mask_of: Callable[[str, bool], bytes], near: Callable[[Polygon], bytes]) -> tuple[str, list[Any]]:
        """Return a condition on the explorer's table, and its parameters. `mask_of` evaluates what it lacks:
        a condition on columns of `records` (true) or of `scores` (false); `near` returns the points near
        edges of a polygon that are inside."""
        fields = self.filter.conditions()
        parts = [f"({sql})" for name, sql in fields.items() if name in _FAST]
        parts += [f"({each.fast})" for each in self.conditions if each.fast is not None]
        polygons = [each.polygon for each in self.conditions if each.polygon is not None]
        masks = []
        for of_records in (False, True):
            slow = [sql for name, sql in fields.items() if name not in _FAST and (name in OF_RECORDS) == of_records]
            slow += [each.shown for each in self.conditions if each.fast is None and each.of_records == of_records]
            if slow:
                masks.append(Mask(mask_of(" AND ".join(f"({each})" for each in slow), of_records), of_records))
        if self.mask is not None:
            masks.append(self.mask)
        parts += [OF_BIT.format("key" if mask.of_records else "score_row") for mask in masks]
        return " AND ".join(parts) or "true", [*map(near, polygons), *(mask.bits for mask in masks)]

    def statement(self) -> str:
        """Return the SELECT that a person may run on the index for the same proteins."""
        parts = [*self.filter.conditions().values(), *(each.shown for each in self.conditions)]
        if self.where is not None:
            parts.append(self.where.strip())
        if not parts:
            return "SELECT * FROM proteins"
        if len(parts) == 1 and self.where is None:
            return f"SELECT * FROM proteins WHERE {parts[0]}"
        return "SELECT * FROM proteins WHERE " + " AND ".join(
            f"(\n{each}\n)" if "--" in each else f"({each})" for each in parts
        )
