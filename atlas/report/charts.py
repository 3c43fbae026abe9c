"""Which chart each figure has, with its words for screen readers and its note."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from foldatlas.atlas.index.views import MAX_NOVEL_TM, MIN_CONFIDENT_PLDDT, MIN_CONFIDENT_PTM
from foldatlas.atlas.report import drawing
from foldatlas.atlas.report.drawing import Labels
from foldatlas.atlas.report.figures import MAP_CELLS, Figure, length_width
from foldatlas.atlas.report.summary import HIGH_CONFIDENCE, percent
from foldatlas.schemas.cluster_tables import LEVELS
from foldatlas.schemas.wording import counted

# Classes of pLDDT as the AlphaFold Database has them: least value, class in report.css, column, name.
CLASSES: Final = (
    (90, "plddt-very-high", "very_high", "very high (above 90)"),
    (70, "plddt-confident", "confident", "confident (70 to 90)"),
    (50, "plddt-low", "low", "low (50 to 70)"),
    (0, "plddt-very-low", "very_low", "very low (below 50)"),
)
LEVEL_NAMES: Final = dict(zip(LEVELS, ("90 % sequence identity", "30 % sequence identity", "structure"), strict=True))


METHODS: Final = {"tsne": "t-SNE", "pca": "principal components"}


class Chart(NamedTuple):
    """A drawing with the figure that it shows, its title and a note below it."""

    title: str
    figure: Figure
    drawing: Markup
    note: str = ""


def confidence_charts(figures: Mapping[str, Figure]) -> list[Chart]:
    """Return the heat map of pLDDT and pTM, and the histogram of mean pLDDT, where there are values."""
    return [chart for chart in (_heat_map(figures), _plddt(figures)) if chart is not None]


def _heat_map(figures: Mapping[str, Figure]) -> Chart | None:
    rows = list(figures["confidence"])
    counts = {
        (row["plddt"] // 10, round(row["ptm"] * 10)): row["proteins"]
        for row in rows
        if row["plddt"] is not None and row["ptm"] is not None
    }
    if not counts:
        return None
    totals = figures["summary"].only
    high = totals["high_confidence"]
    labels = Labels(
        "Heat map of mean pLDDT and pTM",
        f"{high:,} of {totals['proteins']:,} proteins are of high confidence",
        "mean pLDDT",
        "pTM",
    )
    note = f"Number of proteins in each cell. The frame holds those of high confidence: {HIGH_CONFIDENCE}."
    lacking = totals["proteins"] - sum(counts.values())
    if lacking:
        note += f" {counted(lacking, 'protein')} without pLDDT or pTM cannot be drawn."
    corner = (MIN_CONFIDENT_PLDDT // 10, round(MIN_CONFIDENT_PTM * 10))
    return Chart("pLDDT and pTM", figures["confidence"], drawing.heat_map(counts, labels, high_from=corner), note)


def _plddt(figures: Mapping[str, Figure]) -> Chart | None:
    counts = {row["plddt"]: row["proteins"] for row in figures["plddt"] if row["plddt"] is not None}
    if not counts:
        return None
    totals = figures["summary"].only
    colours = {least: _class(least) for least in counts}
    labels = Labels(
        "Histogram of mean pLDDT",
        f"{totals['confident']:,} of {totals['with_plddt']:,} proteins are above {MIN_CONFIDENT_PLDDT}",
        "mean pLDDT",
        "proteins",
    )
    drawn = drawing.histogram(counts, 5, labels, within=(0, 100), classes=colours)
    lacking = totals["proteins"] - totals["with_plddt"]
    note = "Colours as for residues: very high, confident, low and very low, from right to left."
    return Chart(
        "Mean pLDDT",
        figures["plddt"],
        drawn,
        note + (f" {counted(lacking, 'protein')} without pLDDT." if lacking else ""),
    )


def residue_shares(figures: Mapping[str, Figure]) -> list[tuple[str, str, float]]:
    """Return name, class and number of the residues in each class of pLDDT, or nothing without pLDDT."""
    if not figures["residues"] or figures["residues"].only["very_high"] is None:
        return []
    row = figures["residues"].only
    return [(name, kind, row[column] or 0.0) for _, kind, column, name in CLASSES]


def length_chart(figures: Mapping[str, Figure]) -> Chart | None:
    """Return the histogram of lengths."""
    counts = {row["residues"]: row["proteins"] for row in figures["lengths"]}
    if not counts:
        return None
    totals = figures["summary"].only
    width = length_width(totals["longest"])
    labels = Labels(
        "Histogram of lengths",
        f"{totals['shortest']:,} to {totals['longest']:,} residues, median {totals['median_length']:,.0f}",
        "residues",
        "proteins",
    )
    drawn = drawing.histogram(counts, width, labels, within=(0, max(counts) + width))
    return Chart("Lengths", figures["lengths"], drawn)


def map_chart(figures: Mapping[str, Figure]) -> Chart | None:
    """Return the map of `foldatlas project`, coloured by the mean pLDDT of each cell."""
    if not figures["map"]:
        return None
    run, most = figures["maps"].only, max(row["structures"] for row in figures["map"])
    cells = [
        (row["cell_x"], row["cell_y"], row["structures"], _class(row["mean_plddt"]), _cell_name(row))
        for row in figures["map"]
    ]
    what = f"{counted(run['structures'], 'structure')} mapped by {run['features']}"
    labels = Labels("Map of the structures", what)
    method = METHODS.get(run["method"], run["method"])
    note = f"{what} ({method}). Near structures are similar; other distances mean little."
    if most > 1:
        note += f" The larger a dot, the more structures it holds, up to {most:,}."
    return Chart("Map", figures["map"], drawing.dots(cells, MAP_CELLS, labels), f"{note} Colours: mean pLDDT.")


def _class(plddt: float | None) -> str:
    """Return the class in report.css of a pLDDT."""
    return "no-plddt" if plddt is None else next(kind for least, kind, *_ in CLASSES if plddt >= least)


def _cell_name(row: Mapping[str, Any]) -> str:
    plddt = "no pLDDT" if row["mean_plddt"] is None else f"mean pLDDT {row['mean_plddt']:.0f}"
    return f"{counted(row['structures'], 'structure')}, {plddt}"


def novelty_charts(figures: Mapping[str, Figure]) -> list[Chart]:
    """Return the histograms of TM-score to the nearest known structure, and of identity to the nearest sequence."""
    found = []
    tm = {row["tm_query"]: (row["proteins"], row["high_confidence"]) for row in figures["tm"]}
    if tm:
        labels = Labels(
            "Histogram of the greatest TM-score to a known structure",
            f"{sum(count for least, (count, _) in tm.items() if least < MAX_NOVEL_TM):,} proteins are below "
            f"{MAX_NOVEL_TM}, and {sum(high for least, (_, high) in tm.items() if least < MAX_NOVEL_TM):,} of these "
            "are of high confidence",
            "TM-score by the protein's length",
            "proteins",
        )
        drawn = drawing.histogram(
            {least: count for least, (count, _) in tm.items()},
            0.05,
            labels,
            within=(0, 1),
            inside={least: high for least, (_, high) in tm.items()},
            limit=(MAX_NOVEL_TM, "same fold from here"),
            digits=2,
        )
        note = (
            "In the stronger colour: of high confidence. Only these, left of the line, can be novel folds; what is "
            "badly folded resembles nothing."
        )
        found.append(Chart("Similarity to known structures", figures["tm"], drawn, note))
    identity = {row["identity_max"]: row["proteins"] for row in figures["identity"]}
    if identity:
        labels = Labels(
            "Histogram of the greatest identity to a known sequence",
            f"{sum(identity.values()):,} proteins were searched",
            "sequence identity",
            "proteins",
        )
        drawn = drawing.histogram(identity, 0.05, labels, within=(0, 1), digits=2)
        found.append(Chart("Identity to known sequences", figures["identity"], drawn))
    return found


def cluster_charts(figures: Mapping[str, Figure]) -> list[Chart]:
    """Return a chart of the sizes of clusters for each level."""
    found = []
    for level, name in LEVEL_NAMES.items():
        rows = [row for row in figures["clusters"] if row["level"] == level]
        if not rows:
            continue
        values = [(_sizes(row["least"]), row["clusters"]) for row in rows]
        note = cluster_line(rows)
        labels = Labels(f"Sizes of clusters by {name}", note, "structures in the cluster", "clusters")
        found.append(Chart(f"By {name}", figures["clusters"], drawing.columns(values, labels), note))
    return found


def cluster_line(rows: list[dict[str, int]]) -> str:
    """Return how many clusters a level has."""
    clusters, structures = (sum(row[name] for row in rows) for name in ("clusters", "structures"))
    alone = sum(row["clusters"] for row in rows if row["least"] == 1)
    return (
        f"{counted(clusters, 'cluster')} of {counted(structures, 'structure')}; {alone:,} "
        f"({percent(alone, clusters)}) are single"
    )


def _sizes(least: int) -> str:
    if least < 2:
        return "1"
    most = 2 * least - 1
    return f"{least}-{most}" if most < 1_000 else f"{drawing.short(least)}+"
