"""Settings of a structure search: those that change its results, as JSON and as a digest.

Two searches of equal digests against equal references give equal results, on any number of threads.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from foldatlas.schemas.errors import UsageError

Mode = Literal["default", "sensitive", "exhaustive"]

RECIPE: Final = 3  # raise it when a change of the search or of TM-align changes results


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """`mode` says how many candidates reach each stage: "exhaustive" aligns the query with every entry.

    With `verdict_only` a search of a query stops where a TM-score of at least `VERDICT_TM` is found: such a hit is
    true, but need not be the best. Raise UsageError for another mode.
    """

    mode: Mode = "default"
    verdict_only: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UsageError(f"a search is {', '.join(get_args(Mode))}, not {self.mode!r}")

    def document(self) -> dict[str, Any]:
        """Return the settings as a JSON object, with the number of the recipe."""
        return {"recipe": RECIPE, **asdict(self)}

    @property
    def digest(self) -> str:
        """sha256 of the document, 64 hexadecimal digits."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
