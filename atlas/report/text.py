"""The figures of a report as some forty lines for a terminal, at most 80 columns wide where names allow."""

import textwrap
from collections.abc import Mapping
from itertools import zip_longest
from typing import Final

from foldatlas.atlas.report.charts import LEVEL_NAMES, cluster_line, residue_shares
from foldatlas.atlas.report.content import Content
from foldatlas.atlas.report.figures import Figure, length_width
from foldatlas.atlas.report.summary import percent, refusals, speed_line
from foldatlas.atlas.sql.text import clip, display_width, escape_controls

_WIDTH: Final = 80
_BAR: Final = 16  # characters of the longest bar
_BINS: Final = 10
_BEST: Final = 5
_REFUSALS: Final = 5


def report_text(content: Content) -> str:
    """Return the text, with a line feed at its end."""
    figures, summary = content.figures, content.summary
    lines = [f"{escape_controls(content.name)}: protein structure atlas", ""]
    for name, sentence in (
        ("holds" if content.is_imported else "folded", summary.folded),
        ("model", summary.model),
        ("trust", summary.trust),
        ("new", summary.new),
        ("speed", "" if content.is_imported else speed_line(figures["speed"].only)),
    ):
        if sentence:
            lines += textwrap.wrap(sentence, _WIDTH, initial_indent=f"{name:<8}", subsequent_indent=" " * 8)
    refused = refusals(figures)
    for outcome, reason, number in refused[:_REFUSALS]:
        lines.append(clip(f"refused {number:,} {outcome}: {reason}", _WIDTH))
    if len(refused) > _REFUSALS:
        lines.append(f"refused {sum(number for *_, number in refused[_REFUSALS:]):,} for other reasons")
    residues = residue_shares(figures)
    if residues:
        total = sum(value for *_, value in residues)
        parts = (f"{name.partition(' (')[0]} {percent(value, total)}" for name, _, value in residues)
        lines.append(f"residues by pLDDT: {', '.join(parts)}")
    lines += _charts(figures)
    for level, name in LEVEL_NAMES.items():
        rows = [row for row in figures["clusters"] if row["level"] == level]
        if rows:
            lines.append(clip(f"by {name}: {cluster_line(rows)}", _WIDTH))
    lines += _proteins(figures)
    return "\n".join(lines) + "\n"


def _charts(figures: Mapping[str, Figure]) -> list[str]:
    """Return two histograms side by side: of confidence or TM-score, and of lengths."""
    plddt = _bars("mean pLDDT", _binned(figures["plddt"], "plddt", 10))
    tm = _bars("TM-score to known", _binned(figures["tm"], "tm_query", 0.1), digits=1)
    longest = figures["summary"].only["longest"] or 0
    lengths = _bars("residues", _binned(figures["lengths"], "residues", length_width(longest, _BINS)))
    drawn = [chart for chart in (plddt, tm, lengths) if chart]
    lines: list[str] = []
    for number in range(0, len(drawn), 2):
        left, right = drawn[number], drawn[number + 1] if number + 1 < len(drawn) else []
        lines.append("")
        lines += [f"{one:<40}{other}".rstrip() for one, other in zip_longest(left, right, fillvalue="")]
    return lines


def _binned(figure: Figure, column: str, width: float) -> dict[float, int]:
    """Return counts in wider bins, by their least value."""
    found: dict[float, int] = {}
    for row in figure:
        if row[column] is not None:
            least = int(row[column] / width + 1e-6) * width
            found[least] = found.get(least, 0) + row["proteins"]
    return found


def _bars(title: str, counts: Mapping[float, int], digits: int = 0) -> list[str]:
    if not counts:
        return []
    most = max(counts.values())
    lines = [title]
    for least, count in sorted(counts.items()):
        label = f"{least:.{digits}f}" if digits else f"{least:,.0f}"
        bar = "#" * max(round(_BAR * count / most), 1 if count else 0)
        lines.append(f"{label:>6} {bar:<{_BAR}} {count:,}")
    return lines


def _proteins(figures: Mapping[str, Figure]) -> list[str]:
    figure = figures["novel"] or figures["best"]
    if not figure:
        return []
    heading = "most confident novel folds" if figures["novel"] else "most confident proteins"
    lines = ["", f"{heading:<34} length pLDDT  pTM   TM  nearest known"]
    for row in list(figure)[:_BEST]:
        name = clip(escape_controls(row["id"]), 34)
        numbers = [
            f"{row['length']:>6}",
            _number(row["mean_plddt"], 5, 1),
            _number(row["ptm"], 4, 2),
            _number(row["tm_query"], 4, 2),
        ]
        nearest = clip(escape_controls(row["nearest_structure"] or ""), 20)
        lines.append(f"{name}{' ' * (34 - display_width(name))} {' '.join(numbers)}  {nearest}".rstrip())
    return lines


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"
