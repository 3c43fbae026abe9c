"""What the figures of an atlas mean, in sentences that the page and the text share.

An atlas without pTM or pLDDT (imported structures) has sentences that say so. Results of a search against a
demonstration never make a structure novel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.index.views import MAX_NOVEL_TM, MIN_CONFIDENT_PLDDT, MIN_CONFIDENT_PTM, MIN_NOVEL_LENGTH
from foldatlas.atlas.report.figures import Figure
from foldatlas.atlas.sql.text import escape_controls
from foldatlas.schemas.formats import IMPORTED
from foldatlas.schemas.manifest import AtlasHeader, Plan
from foldatlas.schemas.records import REFUSALS, Outcome, Settings
from foldatlas.schemas.wording import counted, readable_time

HIGH_CONFIDENCE: Final = f"pLDDT above {MIN_CONFIDENT_PLDDT} and pTM above {MIN_CONFIDENT_PTM}"
MODELS: Final = {  # of models that users know by a name alone
    "nano": "a small network for trials, wrong about most proteins; its pLDDT shows which",
    "esmfold_v1": "ESMFold (Lin et al. 2023)",
}
_MOST: Final = 0.5
_FEW: Final = 0.1


@dataclass(frozen=True)
class Summary:
    """The four questions that a reader has first, each answered in a sentence or two."""

    folded: str
    model: str
    trust: str
    new: str


def summarize(header: AtlasHeader, plans: list[Plan], figures: Mapping[str, Figure]) -> Summary:
    """Return the sentences of an atlas."""
    totals = figures["summary"].only
    return Summary(_folded(figures, totals), _model(header, plans, figures), _trust(totals), what_is_new(figures))


def states(figures: Mapping[str, Figure]) -> dict[str, int]:
    """Return the number of records by state."""
    found: dict[str, int] = {}
    for row in figures["records"]:
        found[row["state"]] = found.get(row["state"], 0) + row["records"]
    return found


def refusals(figures: Mapping[str, Figure]) -> list[tuple[str, str, int]]:
    """Return outcome, reason and number of the refused records, the most frequent first."""
    return [
        (row["outcome"], refusal_reason(row["outcome"]), row["records"])
        for row in figures["records"]
        if row["state"] == "refused"
    ]


def refusal_reason(outcome: str) -> str:
    """Return the reason of a refusal, or an empty text for another outcome."""
    try:
        return REFUSALS[Outcome(outcome)]
    except (ValueError, KeyError):  # of a later version of the program
        return ""


def speed_line(speed: Mapping[str, Any]) -> str:
    """Return how fast all runs were, or an empty text where none folded anything."""
    if not speed["runs"] or not speed["residues_per_second"]:
        return ""
    return (
        f"{counted(speed['folded'], 'structure')} of {counted(speed['residues'], 'residue')} in "
        f"{readable_time(speed['device_seconds'])} of device time: {speed['residues_per_second']:,.0f} residues/s of a "
        "device in the mean."
    )


def percent(part: float, whole: float) -> str:
    """Return a share in percent, which is 0 % and 100 % only if it is exactly so."""
    if not whole or not part:
        return "0 %"
    share = 100 * part / whole
    if part == whole:
        return "100 %"
    if share < 0.1:
        return "below 0.1 %"
    return f"{min(share, 99.9):.1f} %" if share < 10 or share > 99 else f"{share:.0f} %"


def source_name(uri: str) -> str:
    """Return how a source is shown: a local file without its folders, which are private to a machine."""
    name = uri.rstrip("/").rpartition("/")[2] if uri.startswith("file:") else uri
    return escape_controls(name or uri)


def _folded(figures: Mapping[str, Figure], totals: Mapping[str, Any]) -> str:
    counts = states(figures)
    number = len(figures["sources"].rows)
    files = counted(number, "source") if number < 50 else "50 or more sources"
    if not totals["proteins"]:
        return f"No structure yet: {counted(sum(counts.values()), 'record')} of {files} were read."
    text = (
        f"{counted(totals['proteins'], 'protein')} of {files}, {totals['shortest']:,} to {totals['longest']:,} "
        f"residues long (median {totals['median_length']:,.0f}; {totals['residues']:,} residues in all)."
    )
    others = [
        f"{counts[state]:,} {words}"
        for state, words in (
            ("refused", "refused"),
            ("failed", "failed"),
            ("repeated", "repeated in their file"),
            ("pending", "not folded yet"),
        )
        if counts.get(state)
    ]
    return f"{text} Of {sum(counts.values()):,} records, {', '.join(others)}." if others else text


def _model(header: AtlasHeader, plans: list[Plan], figures: Mapping[str, Figure]) -> str:
    settings, speed = header.settings, figures["speed"].only
    if settings.model == IMPORTED:
        return _origins(figures)
    about = f", {MODELS[settings.model]}" if settings.model in MODELS else ""
    limit = max((plan.max_length for plan in plans), default=None)
    text = (
        f"{escape_controls(settings.model)}{about} (weights {settings.weights[:12]}), "
        f"{_recycles(settings)}, {settings.precision}"
    )
    if limit is not None:
        text += f", proteins of at most {limit:,} residues"
    if speed["runs"]:
        text += f"; FoldAtlas {speed['versions']} on {escape_controls(speed['devices'])}"
    return text + "."


def _recycles(settings: Settings) -> str:
    if settings.recycle_tolerance is None:
        return counted(settings.recycles, "recycle")
    return f"up to {counted(settings.recycles, 'recycle')} until a change of {settings.recycle_tolerance:g} angstrom"


def _origins(figures: Mapping[str, Figure]) -> str:
    """Return where the structures of an atlas of imported ones are from."""
    text = "Structures that existed already were imported; none was predicted by this program."
    found: dict[str, int] = {}
    for row in figures["origins"]:
        name = ", ".join(escape_controls(row[part]) for part in ("model", "origin") if row[part]) or "unknown origin"
        found[name] = found.get(name, 0) + row["proteins"]
    named = [f"{name}: {counted(number, 'protein')}" for name, number in list(found.items())[:3]]
    more = [f"{len(found) - 3:,} more origins"] if len(found) > 3 else []
    return f"{text} {'; '.join([*named, *more])}." if named else text


def _trust(totals: Mapping[str, Any]) -> str:
    number = totals["proteins"]
    if not number:
        return "There is no structure to judge."
    if not totals["with_plddt"]:
        return "The structures have no pLDDT, so this atlas does not say how far they can be trusted."
    mean = f"Mean pLDDT {totals['mean_plddt']:.1f} of 100"
    if not totals["with_ptm"]:
        part = percent(totals["confident"], totals["with_plddt"])
        return (
            f"{mean}; {totals['confident']:,} of {totals['with_plddt']:,} proteins ({part}) are above "
            f"{MIN_CONFIDENT_PLDDT}. The structures have no pTM, so high confidence is by pLDDT alone: whether domains "
            "are placed well to each other is not known."
        )
    high = totals["high_confidence"]
    alone = "; without a pTM, pLDDT alone" if totals["with_ptm"] < totals["with_plddt"] else ""
    text = (
        f"{mean}, mean pTM {totals['mean_ptm']:.2f} of 1. {high:,} of {number:,} proteins "
        f"({percent(high, number)}) are of high confidence ({HIGH_CONFIDENCE}{alone})."
    )
    missing = number - min(totals["with_plddt"], totals["with_ptm"])
    if missing:
        text += f" {missing:,} lack pLDDT or pTM."
    if not high:
        return f"{text} None of these structures should be relied on: read them as guesses."
    if high / number < _FEW:
        return f"{text} Few are predicted with confidence; read the others as guesses."
    if high / number < _MOST:
        return f"{text} Less than half are predicted with confidence: look at that of each."
    return f"{text} Most are predicted with confidence: look at that of each."


def search_of(figures: Mapping[str, Figure], kind: str) -> dict[str, Any] | None:
    """Return the latest search of `structures` or `sequences`, or None."""
    return next((row for row in figures["searches"] if row["search"] == kind), None)


def what_is_new(figures: Mapping[str, Figure]) -> str:
    """Return what the search of structures found."""
    search, totals = search_of(figures, "structures"), figures["summary"].only
    if search is None:
        return "Not known: the structures were not compared with known ones (the command foldatlas novelty does that)."
    name = f"{escape_controls(search['reference'])} (version {search['version']}, {search['entries']:,} structures)"
    if search["demo"]:
        return (
            f"Not known: the structures were compared with the reference {name}, a demonstration too small to call "
            "anything new; similarity to its entries is shown."
        )
    if not figures["new"]:
        return f"Nothing: no structure was there to compare with {name}."
    novel, known = figures["new"].only["novel"], figures["new"].only["known"]
    high = totals["high_confidence"]
    basis = "" if totals["with_ptm"] else " The structures have no pTM, so their confidence is by pLDDT alone."
    if not high:
        return (
            f"Nothing that can be relied on: the structures were compared with {name}, but none is of high confidence, "
            f"and a badly folded protein resembles nothing.{basis}"
        )
    text = (
        f"{counted(novel, 'novel fold')}: of {counted(high, 'protein')} of high confidence, {known:,} resemble a known "
        f"structure (TM-score {MAX_NOVEL_TM} or more) of the reference {name}, and {novel:,} do not."
    )
    others = high - known - novel
    if others:
        text += f" Not searched, or of fewer than {MIN_NOVEL_LENGTH} residues: {others:,}."
    return text + basis


def shown_heading(figures: Mapping[str, Figure]) -> tuple[str, str]:
    """Return the heading of the structures that are shown, and why these: novel folds only where there are some."""
    totals, search = figures["summary"].only, search_of(figures, "structures")
    if figures["novel"]:
        return (
            "The most confident novel folds",
            f"Novel: of high confidence ({HIGH_CONFIDENCE}), at least {MIN_NOVEL_LENGTH} residues, and no known "
            f"structure with a TM-score of {MAX_NOVEL_TM} or more.",
        )
    if not totals["with_plddt"]:
        return "Some structures", "The structures have no pLDDT; these are the longest."
    heading = "The most confident structures"
    if search is None:
        return heading, "Nothing was searched for novelty, so these are the most confident ones."
    if search["demo"]:
        return (
            heading,
            "The reference was a demonstration, against which nothing is novel: the most confident ones.",
        )
    if not totals["high_confidence"]:
        return (
            heading,
            "No structure is of high confidence, so none is called novel: the most confident ones.",
        )
    return heading, "Every confident structure resembles a known one: these are the most confident ones."
