"""The page: figures, drawings and structures put into the template report.html.

Texts of an atlas (ids, descriptions, names of sources) are escaped by the template, or stand in JSON without `<`. By
the Content-Security-Policy only the scripts and the style of this page count, given by their digests: markup that came
in otherwise would not run either.
"""

import base64
import datetime
import functools
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import jinja2
from markupsafe import Markup

from foldatlas.atlas.report import charts, drawing
from foldatlas.atlas.report.cards import card, shown_text, view_data
from foldatlas.atlas.report.content import Content
from foldatlas.atlas.report.figures import Figure
from foldatlas.atlas.report.summary import (
    percent,
    refusal_reason,
    search_of,
    shown_heading,
    source_name,
    speed_line,
    states,
)
from foldatlas.atlas.web.assets import HOW_TO_INSTALL, inline_script, viewer_library, viewer_licences
from foldatlas.schemas.novelty_tables import REASONS
from foldatlas.schemas.version import program_version
from foldatlas.schemas.wording import counted, readable_time

ABSENT: Final = "–"  # noqa: RUF001 - a dash in a list, where figures have NULL
_PAGE: Final = resources.files("foldatlas.atlas.report") / "template"


def report_html(content: Content) -> str:
    """Return the page."""
    figures = content.figures
    library = viewer_library() if content.structures else None
    script, style = _read("report.js"), _read("report.css")
    code = None if library is None else inline_script(library)
    heading, why = shown_heading(figures)
    confidence = charts.confidence_charts(figures)
    residues = charts.residue_shares(figures)
    context = {
        "policy": _policy([text for text in (script, code) if text is not None], style),
        "style": Markup(style),
        "script": Markup(script),
        "library": None if code is None else Markup(code),
        "licences": viewer_licences(),
        "how_to_install": HOW_TO_INSTALL,
        "version": program_version(),
        "name": shown_text(content.name),
        "made": _made(content),
        "imported": content.is_imported,
        "summary": content.summary,
        "tiles": _tiles(figures),
        "figures": figures,
        "structures": [card(one) for one in content.structures],
        "has_known": any(one.known for one in content.structures),
        "data": view_data(content.structures),
        "heading": heading,
        "why": why,
        "shown_figure": figures["novel"] or figures["best"],
        "confidence_charts": confidence,
        "residue_bar": _residue_bar(residues),
        "residue_shares": [
            (name, kind, percent(value, sum(value for *_, value in residues))) for name, kind, value in residues
        ],
        "length_chart": charts.length_chart(figures),
        "map_chart": charts.map_chart(figures),
        "searches": list(figures["searches"]),
        "novelty_charts": charts.novelty_charts(figures),
        "cluster_charts": charts.cluster_charts(figures),
        "best_note": _best_note(figures),
        "settings": _settings(content),
        "speed": "" if content.is_imported else speed_line(figures["speed"].only),
        "citation": content.citation,
    }
    return _environment().get_template("report.html").render(context)


@functools.cache  # compiling the template takes a tenth of a second
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": _cell,
        "decimals": _decimals,
        "value": lambda value: "" if value is None else f"{value:.6g}",
        "source": lambda uri: shown_text(source_name(uri)),
        "refusal": refusal_reason,
        "reason": lambda reason: REASONS.get(reason, reason),
        "given": lambda text: ABSENT if text is None else shown_text(text),
        "time": lambda seconds: "" if seconds is None else readable_time(seconds),
    }
    return environment


def _read(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _policy(scripts: list[str], style: str) -> str:
    """Return a Content-Security-Policy by which nothing is fetched, and only these scripts and this style count."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(digest, scripts))}; style-src {digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _cell(value: Any) -> str:
    """Return a value of a figure as text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if isinstance(value, datetime.datetime):
            return value.strftime("%Y-%m-%d %H:%M")
        return shown_text(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.2f}"
    return f"{value:,.0f}"


def _decimals(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def _made(content: Content) -> str:
    text = f"Report of {content.made:%d %B %Y, %H:%M} UTC by FoldAtlas {program_version()}"
    if content.is_stale:
        text += ". The index is older than the atlas: what came since is missing; run foldatlas index."
    return text


def _tiles(figures: Mapping[str, Figure]) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, with what they count."""
    totals, counts = figures["summary"].only, states(figures)
    found = [(f"{totals['proteins']:,}", "proteins with a structure")]
    if totals["with_plddt"]:
        found.append((f"{totals['mean_plddt']:.1f}", "mean pLDDT, of 100"))
    if totals["with_ptm"]:
        high = totals["high_confidence"]
        found.append((f"{high:,}", f"of high confidence ({percent(high, totals['proteins'])})"))
    search = search_of(figures, "structures")
    if search is not None and not search["demo"] and figures["new"]:
        found.append((f"{figures['new'].only['novel']:,}", "novel folds"))
    refused, failed = counts.get("refused", 0), counts.get("failed", 0)
    return [*found, (f"{refused:,}", "records refused"), (f"{failed:,}", "records that failed")]


def _best_note(figures: Mapping[str, Figure]) -> str:
    listed, number = len(figures["best"].rows), figures["summary"].only["proteins"]
    which = f"The first {listed:,} of {number:,}" if listed < number else f"All {number:,}"
    order = f"{which}, by pTM x pLDDT"
    totals = figures["summary"].only
    if totals["with_ptm"] < totals["with_plddt"]:
        order += " (pLDDT / 100 in place of a pTM that is missing)"
    return f"{order}. A dash means that there is no value: in TM-score, that it was not searched; 0, without a hit."


def _residue_bar(residues: list[tuple[str, str, float]]) -> Markup | None:
    if not residues:
        return None
    total = sum(value for *_, value in residues)
    text = "; ".join(f"{name}: {percent(value, total)}" for name, _, value in residues)
    return drawing.shares(residues, drawing.Labels("Residues by pLDDT", text))


def _settings(content: Content) -> list[tuple[str, str]]:
    settings, speed = content.header.settings, content.figures["speed"].only
    found = [("Model", shown_text(settings.model))]
    if not content.is_imported:
        found += [
            ("Weights (digest)", settings.weights),
            ("Recycles", f"{settings.recycles}"),
            ("Precision", settings.precision),
        ]
        if settings.recycle_tolerance is not None:
            found.append(("Recycling stops at", f"a change of {settings.recycle_tolerance:g} angstrom"))
        limits = sorted({plan.max_length for plan in content.plans})
        found.append(("Greatest length", ", ".join(f"{limit:,} residues" for limit in limits) or "no plan"))
    if speed["runs"]:
        found.append(("FoldAtlas", shown_text(speed["versions"])))
        found.append(("Devices", shown_text(speed["devices"])))
        found.append(("Runs", f"{counted(speed['runs'], 'run')}, {counted(speed['shards'], 'shard')}"))
    return found
