"""Whether a protein's fold is known, in a word and a sentence, by the rules of the views `novel` and `dark_clusters`.

known         a known structure has a TM-score of 0.5 or more, by the protein's length
novel         none has, and the prediction is good enough to count: a row of `novel`
dark          none has, nor any member of its cluster by structure, none of which is similar in sequence either
unclear       none has, but the prediction is short or of low confidence, or the reference is a demonstration
not_searched  it was not compared with known structures
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from foldatlas.atlas.index.views import MAX_NOVEL_TM, MIN_CONFIDENT_PLDDT, MIN_CONFIDENT_PTM, MIN_NOVEL_LENGTH
from foldatlas.schemas.novelty_tables import REASONS

Verdict = Literal["known", "novel", "dark", "unclear", "not_searched"]

DARK_SQL: Final = "SELECT 1 AS one FROM dark_clusters WHERE cluster = ?"


def verdict(protein: Mapping[str, Any], search: Mapping[str, Any] | None, is_dark: bool) -> tuple[Verdict, str]:
    """Return the verdict on a row of `proteins`, and its reason as a sentence.

    `search` is its row of the latest search of structures with `reason`, `reference` and `is_demonstration`, None if
    it was not part of one; `is_dark` is whether its cluster is a row of `dark_clusters`.
    """
    score = protein["tm_query"]
    if score is None:
        return "not_searched", _why_not_searched(search)
    nearest = protein["nearest_structure"]
    scored = f"TM-score {_score_text(score)}"
    if score >= MAX_NOVEL_TM:
        return "known", f"It resembles the known structure {nearest} ({scored}; {MAX_NOVEL_TM} or more is one fold)."
    nothing = (
        f"No known structure has a TM-score of {MAX_NOVEL_TM} or more; the nearest is {nearest} ({scored})"
        if nearest is not None
        else "The search found no known structure that resembles it"
    )
    if search is not None and search["is_demonstration"]:
        return "unclear", f"{nothing}. The reference is a demonstration, against which nothing counts as novel."
    doubts = _doubts(protein)
    if not doubts:
        others = ", and neither does a known structure or sequence resemble any of its cluster" if is_dark else ""
        return "novel", f"{nothing}{others}. The prediction is of high confidence."
    if is_dark:
        return "dark", (
            f"{nothing}, and no known structure or sequence resembles any member of its cluster by structure. It does "
            f"not count as novel: {doubts}."
        )
    return "unclear", f"{nothing}, but it does not count as novel: {doubts}."


def _score_text(score: float) -> str:
    """Return a score with two decimals, or four where two would round it to the limit from below."""
    return f"{score:.2f}" if (round(score, 2) >= MAX_NOVEL_TM) == (score >= MAX_NOVEL_TM) else f"{score:.4f}"


def _why_not_searched(search: Mapping[str, Any] | None) -> str:
    if search is None:
        return "It was not compared with known structures."
    why = search["reason"]
    words = REASONS.get(why, why) if why else "its cluster changed since"
    return f"It was not compared with known structures: {words}."


def _doubts(protein: Mapping[str, Any]) -> str:
    """Return why a protein cannot be novel whatever its hit, or an empty text."""
    found = []
    if protein["mean_plddt"] is None:
        found.append("it has no pLDDT")
    elif protein["mean_plddt"] <= MIN_CONFIDENT_PLDDT:
        found.append(f"its mean pLDDT is not above {MIN_CONFIDENT_PLDDT}")
    if protein["ptm"] is not None and protein["ptm"] <= MIN_CONFIDENT_PTM:
        found.append(f"its pTM is not above {MIN_CONFIDENT_PTM}")
    if protein["length"] < MIN_NOVEL_LENGTH:
        found.append(f"it has fewer than {MIN_NOVEL_LENGTH} residues")
    return " and ".join(found)
