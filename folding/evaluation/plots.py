"""Plots of an evaluation as SVG. matplotlib, which is in the extra `train`, is imported inside functions."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from foldatlas.folding.compare.experimental import Chain
from foldatlas.folding.evaluation.measures import Row
from foldatlas.folding.evaluation.summary import order_of_models

Axes = Any  # matplotlib.axes.Axes
Draw = Callable[[int, Axes], None]

MEASURE_TITLES: Final = {"tm_score": "TM-score, fixed pairing", "lddt_ca": "lDDT of C-alphas"}
_COLOURS: Final = ("#2c6fbb", "#c65d21", "#3a8f5c", "#8a5aa8", "#b8860b", "#5f6b76")
_GREY: Final = "#9aa3ab"
_SIZE: Final = (4.2, 3.6)  # inches
_HEXAGONS: Final = 40


def plots(rows: Sequence[Row], chosen: Mapping[str, Sequence[Chain]], figures: Mapping[str, Any]) -> dict[str, str]:
    """Return title -> SVG. Raise ImportError if matplotlib is not installed."""
    models = [name for name in order_of_models(figures) if any(r.model == name and r.kind == "model" for r in rows)]
    made = {}
    for name, title in MEASURE_TITLES.items():
        draw = _distributions(rows, chosen, order_of_models(figures), name)
        made[f"{title}: by split, with baselines"] = _svg(draw, len(chosen), title, sharey=True, titles=list(chosen))
    for model in models:
        of_model = [row for row in rows if row.model == model]
        made[f"{model}: calibration of pLDDT, mean lDDT of residues by pLDDT"] = _svg(
            _reliability(figures, model), len(figures), "plddt" + model, titles=list(figures)
        )
        made[f"{model}: pLDDT against lDDT of C-alphas, residues"] = _svg(
            _residues(of_model, chosen), len(chosen), "residues" + model, titles=list(chosen)
        )
        made[f"{model}: confidence of chains"] = _svg(
            _chains(of_model, chosen), 2, "chains" + model, titles=["mean pLDDT and lDDT", "pTM and TM-score"]
        )
    asked = {
        label: [model for model in models if part["models"].get(model, {}).get("perplexity")]
        for label, part in figures.items()
    }
    labels = [label for label, found in asked.items() if found]
    if labels:
        made["Perplexity and TM-score of each model"] = _svg(
            _scaling(figures, labels, asked), len(labels), "scaling", titles=labels, sharey=True
        )
    return made


def _svg(draw: Draw, num_panels: int, salt: str, *, titles: Sequence[str], sharey: bool = False) -> str:
    """Call `draw(panel, axes)` for each panel, side by side; return an SVG element without XML declaration."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # keep text as text
        "svg.hashsalt": salt,  # the same ids for the same data, different ids in different plots of a page
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,  # names may have a dollar sign
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(_SIZE[0] * num_panels, _SIZE[1]), layout="constrained")
        panels = figure.subplots(1, num_panels, squeeze=False, sharey=sharey)[0]
        for index, axes in enumerate(panels):
            axes.set_title(titles[index], fontsize=9)
            draw(index, axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _distributions(
    rows: Sequence[Row], chosen: Mapping[str, Sequence[Chain]], models: Sequence[str], measure: str
) -> Draw:
    labels = list(chosen)

    def draw(panel: int, axes: Axes) -> None:
        names = {chain.name for chain in chosen[labels[panel]]}
        for index, model in enumerate(models):
            values = [
                getattr(row, measure)
                for row in rows
                if row.model == model and row.chain in names and getattr(row, measure) is not None
            ]
            if not values:
                continue
            is_model = any(row.model == model and row.kind == "model" for row in rows)
            colour = _COLOURS[index % len(_COLOURS)] if is_model else _GREY
            boxes = axes.boxplot(
                [values], positions=[index], widths=0.6, patch_artist=True, whis=(5, 95), showfliers=False
            )
            boxes["boxes"][0].set(facecolor=colour, alpha=0.55)
            boxes["medians"][0].set(color="black")
            axes.plot(index, np.mean(values), "D", color="black", markersize=4)
        axes.set_xticks(range(len(models)), models, rotation=25, ha="right")
        axes.set_xlim(-0.6, len(models) - 0.4)
        axes.set_ylim(0, 1)
        axes.set_ylabel(MEASURE_TITLES[measure])

    return draw


def _reliability(figures: Mapping[str, Any], model: str) -> Draw:
    labels = list(figures)

    def draw(panel: int, axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=_GREY)
        found = figures[labels[panel]]["models"].get(model, {}).get("plddt_of_residues")
        bins = [part for part in found["bins"] if part["count"]] if found else []
        total = sum(part["count"] for part in bins)
        for part in bins:
            width = part["high"] - part["low"]
            axes.bar(part["low"], part["count"] / total, width=width, align="edge", color=_GREY, alpha=0.3, linewidth=0)
        axes.plot([p["mean_claimed"] for p in bins], [p["mean_true"] for p in bins], "o-", color=_COLOURS[0])
        _unit_square(axes, "pLDDT / 100", "mean lDDT (bars: part of the residues)")

    return draw


def _residues(rows: Sequence[Row], chosen: Mapping[str, Sequence[Chain]]) -> Draw:
    labels = list(chosen)

    def draw(panel: int, axes: Axes) -> None:
        names = {chain.name for chain in chosen[labels[panel]]}
        known = [(r.plddt_L, r.lddt_ca_L) for r in rows if r.chain in names and r.lddt_ca_L is not None]
        pairs = [np.stack([np.asarray(p) / 100, t], axis=1) for p, t in known if p is not None]
        points = np.concatenate(pairs) if pairs else np.zeros((0, 2))
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            axes.hexbin(
                *points.T, gridsize=_HEXAGONS, extent=(0, 1, 0, 1), mincnt=1, bins="log", cmap="Blues", linewidths=0.1
            )
        axes.plot([0, 1], [0, 1], ":", color=_GREY)
        _unit_square(axes, "pLDDT / 100", "lDDT of the C-alpha")

    return draw


def _chains(rows: Sequence[Row], chosen: Mapping[str, Sequence[Chain]]) -> Draw:
    def draw(panel: int, axes: Axes) -> None:
        for index, (label, chains) in enumerate(chosen.items()):
            names = {chain.name for chain in chains}
            found = [row for row in rows if row.chain in names and row.lddt_ca is not None]
            claim = [row.ptm if panel else (row.mean_plddt or 0) / 100 for row in found]
            truth = [row.tm_score if panel else row.lddt_ca for row in found]
            points = np.array([claim, truth], dtype=np.float64)
            colour = _COLOURS[index % len(_COLOURS)]
            axes.plot(*points, "o", markersize=4, alpha=0.6, markeredgewidth=0, color=colour, label=label)
        axes.plot([0, 1], [0, 1], ":", color=_GREY)
        _unit_square(axes, ("mean pLDDT / 100", "pTM")[panel], ("lDDT of C-alphas", "TM-score")[panel])
        axes.legend(frameon=False, fontsize=8)

    return draw


def _scaling(figures: Mapping[str, Any], labels: Sequence[str], asked: Mapping[str, Sequence[str]]) -> Draw:
    def draw(panel: int, axes: Axes) -> None:
        label = labels[panel]
        for index, model in enumerate(asked[label]):
            found = figures[label]["models"][model]
            point = found["perplexity"]["model"], found["measures"]["tm_score"]["mean"]
            if None in point:
                continue
            axes.plot(*point, "o", color=_COLOURS[index % len(_COLOURS)])
            axes.annotate(model, point, textcoords="offset points", xytext=(5, 4), fontsize=8)
        axes.set_xlabel("perplexity (lower is better)")
        axes.set_ylabel("mean TM-score")
        axes.margins(0.25)

    return draw


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
