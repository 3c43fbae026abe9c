"""Plot of the results of benchmarks/gpu_fold.py, which needs no plotting library itself.

    python benchmarks/gpu_plot.py [benchmarks/results/gpu_fold.json] [--output gpu_fold.svg]

Left: proteins a second by length, each program a line, and the bound. Right: how many times as fast ours is as the
others. Needs matplotlib.
"""

import argparse
import json
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

RESULTS: Final = Path(__file__).parent / "results"
OURS: Final = "ours"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, nargs="?", default=RESULTS / "gpu_fold.json")
    parser.add_argument("--output", type=Path, help="by default the JSON file's name with .svg")
    options = parser.parse_args()
    output = options.output or options.json.with_suffix(".svg")
    plot(json.loads(options.json.read_text(encoding="utf-8")), output)
    print(output)


def plot(found: dict[str, Any], output: Path) -> None:
    rates = rates_of(found["rows"])
    if not rates:
        raise SystemExit("no row of the file has a rate: gpu_fold.py measured nothing")
    figure, (speed, ratio) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, by_length in rates.items():
        lengths = sorted((length for length in by_length if length.isdigit()), key=int)
        speed.plot(
            [int(length) for length in lengths], [by_length[length] for length in lengths], marker="o", label=name
        )
    bound = bound_of(found["rows"])
    speed.plot(list(bound), list(bound.values()), color="black", linestyle=":", label="bound")
    speed.set(xscale="log", yscale="log", xlabel="residues", ylabel="proteins per second", title=title(found))
    speed.legend()
    ours = rates.get(OURS, {})
    labels = [label for label in ("mix", *map(str, sorted(bound))) if label in ours]
    others = [name for name in rates if name != OURS]
    for number, name in enumerate(others):
        at = [place + number / (len(others) + 1) for place in range(len(labels))]
        times = [ours[label] / rates[name][label] if label in rates[name] else 0 for label in labels]
        ratio.bar(at, times, width=1 / (len(others) + 1), align="edge", label=name)
    ratio.axhline(1, color="black", linewidth=0.5)
    ratio.set_xticks([place + 0.4 for place in range(len(labels))], labels)
    ratio.set(xlabel="residues", ylabel="ours is faster by", title="proteins per second of ours over theirs")
    ratio.legend()
    figure.savefig(output)
    plt.close(figure)


def rates_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return proteins a second by name and label, of what was measured."""
    rates: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.get("per_second"):
            rates.setdefault(row["name"], {})[row["proteins"]] = row["per_second"]
    return rates


def bound_of(rows: list[dict[str, Any]]) -> dict[int, float]:
    """Return proteins a second at the bound by length, ascending."""
    bound = {
        int(row["proteins"]): row["per_second"] / row["share_of_bound"]
        for row in rows
        if row.get("per_second") and row["proteins"].isdigit()
    }
    return dict(sorted(bound.items()))


def title(found: dict[str, Any]) -> str:
    return f"{found['hardware'][:40]}, torch {found['torch']}" + (" (QUICK: means nothing)" if found["quick"] else "")


if __name__ == "__main__":
    main()
