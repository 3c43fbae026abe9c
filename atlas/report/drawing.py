"""Charts as SVG, drawn here: histograms, a heat map, a bar of shares and a map of dots.

Colours are classes of report.css, which has them for light, dark and print. Every chart has a title and a description
for screen readers; the same numbers stand beside it as a table. Sizes are in units of the viewBox, WIDTH wide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

WIDTH: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 44  # margins
_PLOT_HEIGHT: Final = 190
_ALMOST_ALL: Final = 0.55  # opacity of a cell above which its number is in the light colour

AXIS: Final = Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>')
GRID: Final = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
TEXT: Final = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
RECT: Final = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')


@dataclass(frozen=True)
class Labels:
    """The words of a chart: `title` and `text` for screen readers, and the names of its axes."""

    title: str
    text: str
    x: str = ""
    y: str = ""


def histogram(
    counts: Mapping[float, int],
    width: float,
    labels: Labels,
    *,
    within: tuple[float, float] | None = None,
    inside: Mapping[float, int] | None = None,
    limit: tuple[float, str] | None = None,
    classes: Mapping[float, str] | None = None,
    digits: int = 0,
) -> Markup:
    """Return a histogram: of each bin, by its least value, how many.

    `width` is that of a bin, `within` the range of the axis. `inside` are parts of the counts, drawn in another colour.
    `limit` is a value that is marked, with its meaning. `classes` are the colours of bins, by their least value.
    """
    low, high = within or (min(counts), max(counts) + width)
    number = round((high - low) / width)
    plot = WIDTH - _LEFT - _RIGHT
    step = plot / max(number, 1)
    most = max(counts.values(), default=0)
    top = nice_ceiling(most)
    parts = [*_frame(top, labels)]

    def x_of(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * plot

    for least, count in counts.items():
        name = f"{least:,.{digits}f} to {least + width:,.{digits}f}: {count:,}"
        kind = (classes or {}).get(least, "bar")
        parts.append(_column(x_of(least), step, count, top, kind, name))
        part = (inside or {}).get(least, 0)
        if part:
            parts.append(_column(x_of(least), step, part, top, "bar-inside", f"{name}, {part:,} of high confidence"))
    every = _every(number)
    for tick in range(0, number + 1, every):
        value = low + tick * width
        parts.append(TEXT.format("tick", _n(x_of(value)), _TOP + _PLOT_HEIGHT + 16, "middle", f"{value:,.{digits}f}"))
    if limit is not None and low < limit[0] < high:
        x = _n(x_of(limit[0]))
        parts.append(Markup('<line class="limit" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x, _TOP, x, _base()))
        side, anchor = (5, "start") if x_of(limit[0]) < 0.6 * WIDTH else (-5, "end")
        parts.append(TEXT.format("note", _n(x_of(limit[0]) + side), _TOP + 11, anchor, limit[1]))
    return _svg(parts, _TOP + _PLOT_HEIGHT + _BOTTOM, labels)


def columns(values: Sequence[tuple[str, int]], labels: Labels) -> Markup:
    """Return a chart of a column for each name."""
    top = nice_ceiling(max((count for _, count in values), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(values), 1)
    every = -(-len(values) // 10)
    parts = [*_frame(top, labels)]
    for number, (name, count) in enumerate(values):
        x = _LEFT + number * step
        parts.append(_column(x, step, count, top, "bar", f"{name}: {count:,}"))
        if number % every == 0:
            parts.append(TEXT.format("tick", _n(x + step / 2), _base() + 16, "middle", name))
    return _svg(parts, _TOP + _PLOT_HEIGHT + _BOTTOM, labels)


def heat_map(counts: Mapping[tuple[int, int], int], labels: Labels, *, high_from: tuple[int, int]) -> Markup:
    """Return a map of 10 x 10 cells by tenths of both axes; cells from `high_from` on have a frame."""
    cell_x, cell_y = (WIDTH - _LEFT - _RIGHT) / 10, 26.0
    most = max(counts.values(), default=1)
    base = _TOP + 10 * cell_y
    parts = []
    for column in range(10):
        for row in range(10):
            count = counts.get((column, row), 0)
            x, y = _LEFT + column * cell_x, base - (row + 1) * cell_y
            name = f"pLDDT {column * 10} to {column * 10 + 10}, pTM {row / 10:.1f} to {row / 10 + 0.1:.1f}: {count:,}"
            if not count:
                parts.append(RECT.format("cell-empty", _n(x), _n(y), _n(cell_x - 1), cell_y - 1, name))
                continue
            share = (count / most) ** 0.5  # of the root, so that small counts are seen
            opacity = 0.12 + 0.88 * share
            parts.append(
                Markup(
                    '<rect class="cell" x="{}" y="{}" width="{}" height="{}" fill-opacity="{}"><title>{}</title></rect>'
                ).format(_n(x), _n(y), _n(cell_x - 1), cell_y - 1, f"{opacity:.2f}", name)
            )
            kind = "cell-text-on" if opacity > _ALMOST_ALL else "cell-text"
            parts.append(TEXT.format(kind, _n(x + cell_x / 2), _n(y + cell_y / 2 + 4), "middle", short(count)))
    for tick in range(11):
        parts.append(TEXT.format("tick", _n(_LEFT + tick * cell_x), _n(base + 16), "middle", tick * 10))
        parts.append(TEXT.format("tick", _LEFT - 6, _n(base - tick * cell_y + 4), "end", f"{tick / 10:.1f}"))
    x, y = _LEFT + high_from[0] * cell_x, _TOP
    parts.append(
        Markup('<rect class="high" x="{}" y="{}" width="{}" height="{}"/>').format(
            _n(x - 1), y - 1, _n((10 - high_from[0]) * cell_x + 1), _n((10 - high_from[1]) * cell_y + 1)
        )
    )
    parts += _names(labels, base, 10 * cell_y)
    return _svg(parts, round(base) + _BOTTOM, labels)


def shares(parts: Sequence[tuple[str, str, float]], labels: Labels) -> Markup:
    """Return one bar of shares, each with its name, class and value."""
    total = sum(value for _, _, value in parts) or 1.0
    x, drawn = 0.0, []
    for name, kind, value in parts:
        width = WIDTH * value / total
        drawn.append(RECT.format(kind, _n(x), 0, _n(max(width - 1, 0)), 26, f"{name}: {value / total:.1%}"))
        x += width
    return _svg(drawn, 26, labels, stretched=True)


def dots(cells: Sequence[tuple[int, int, int, str, str]], num: int, labels: Labels) -> Markup:
    """Return a map of `num` x `num` cells, a dot in each: column, row from below, count, class and name of the cell."""
    side = WIDTH / num
    most = max((count for _, _, count, _, _ in cells), default=1)
    dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    drawn = [
        dot.format(
            kind,
            _n((column + 0.5) * side),
            _n((num - row - 0.5) * side),
            f"{side / 2 * (0.45 + 0.75 * (count / most) ** 0.5):.2f}",
            name,
        )
        for column, row, count, kind, name in cells
    ]
    return _svg(drawn, WIDTH, labels)


def nice_ceiling(value: float) -> int:
    """Return the least of 1, 2, 4, 5, 10, 20, ... that is `value` or more, so that half of it is whole above 1."""
    power = 1
    while True:
        for factor in (1, 2, 4, 5):
            if factor * power >= value:
                return factor * power
        power *= 10


def short(number: int) -> str:
    """Return a number in at most four characters, such as 950, 1.2k, 35k, 4M."""
    if number < 1_000:
        return str(number)
    for unit in "kMG":
        value = number / 1_000
        if value < 999.5 or unit == "G":
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
        number = round(value)
    raise AssertionError("the last unit is returned")


def _every(number: int) -> int:
    """Return how many bins apart ticks are, at most eleven of them."""
    return next(step for step in (1, 2, 4, 5, 10, 20, 50, 100, 200, 500, 1000) if number / step <= 10)


def _base() -> int:
    return _TOP + _PLOT_HEIGHT


def _frame(top: int, labels: Labels) -> list[Markup]:
    parts = []
    values = [0, top] if top < 2 else [0, top // 2, top]
    for value in values:
        y = _n(_base() - _PLOT_HEIGHT * value / top)
        line = AXIS if value == 0 else GRID
        parts.append(line.format(_LEFT, y, WIDTH - _RIGHT, y))
        parts.append(TEXT.format("tick", _LEFT - 6, _n(_base() - _PLOT_HEIGHT * value / top + 4), "end", short(value)))
    return [*parts, *_names(labels, _base(), _PLOT_HEIGHT)]


def _names(labels: Labels, base: float, height: float) -> list[Markup]:
    middle = base - height / 2
    return [
        TEXT.format("name", _n((_LEFT + WIDTH - _RIGHT) / 2), _n(base + 36), "middle", labels.x),
        Markup('<text class="name" x="12" y="{}" text-anchor="middle" transform="rotate(-90 12 {})">{}</text>').format(
            _n(middle), _n(middle), labels.y
        ),
    ]


def _column(x: float, step: float, count: int, top: int, kind: str, name: str) -> Markup:
    height = max(_PLOT_HEIGHT * count / top, 1.0 if count else 0.0)
    gap = 1.5 if step > 6 else 0.3
    return RECT.format(kind, _n(x + gap / 2), _n(_base() - height), _n(step - gap), _n(height), name)


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _svg(parts: Sequence[Markup], height: float, labels: Labels, *, stretched: bool = False) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"{}>').format(
        WIDTH,
        _n(height),
        f"{labels.title}. {labels.text}",
        Markup(' preserveAspectRatio="none"') if stretched else "",
    )
    desc = Markup("<title>{}</title><desc>{}</desc>").format(labels.title, labels.text)
    return head + desc + Markup("").join(parts) + Markup("</svg>")
