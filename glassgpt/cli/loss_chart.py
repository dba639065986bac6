"""The loss of a run as a chart of braille characters, each of which has 2 x 4 dots."""

import itertools
import math
from collections.abc import Sequence

from rich.text import Text

MOST_POINTS = 400
"""That a run of any length is remembered by."""
LABEL = 8
"""Columns left of the chart, for the values of its first and last row."""
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Of a braille character: by column, from the top."""
MARK = "●"
SMOOTHED = 1 / 32
"""Of a run: the loss shown at a point is the mean over this share of it."""


class LossSeries:
    """The losses of all steps so far, as means over equally many steps: `MOST_POINTS` at most."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        """(last step, mean loss)."""
        self.first: float | None = None
        """The loss of the first step, which is the first point too."""
        self._stride = 1
        self._waiting: list[float] = []

    def add(self, step: int, loss: float) -> None:
        """The loss of the next step."""
        if self.first is None:
            self.first = loss
            self.points.append((step, loss))
            return
        self._waiting.append(loss)
        if len(self._waiting) < self._stride:
            return
        self.points.append((step, sum(self._waiting) / len(self._waiting)))
        self._waiting = []
        if len(self.points) > MOST_POINTS:
            first, *rest = self.points
            pairs = zip(rest[::2], rest[1::2])
            self.points = [first, *((step, (before + after) / 2) for (_, before), (step, after) in pairs)]
            self._stride *= 2


def loss_chart(
    training: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]], width: int, height: int
) -> list[Text]:
    """`height` rows of a chart and one that names its axes, `width` columns each; both lines are (step, loss).

    The scale leaves out the first fifth of a longer run, where the loss falls so far that nothing else could be told
    apart. Validation points are marked.
    """
    first, last = training[0][0], training[-1][0]
    training = _smoothed([(step, loss) for step, loss in training if math.isfinite(loss)])
    columns = max(1, width - LABEL)
    later = training[len(training) // 5 :] if len(training) >= 20 else training
    validation = [(min(step, last), loss) for step, loss in validation if first <= step and math.isfinite(loss)]
    values = [loss for _, loss in [*later, *validation]] or [0.0]
    low, high = min(values), max(values)
    if high - low < 1e-3 * abs(high):
        low, high = low - 5e-4 * abs(low), high + 5e-4 * abs(high)

    def x(step: int, dots: int) -> int:
        return (dots - 1) * (step - first) // max(1, last - first)

    def y(loss: float, dots: int) -> int:
        return round((dots - 1) * (high - loss) / max(1e-12, high - low))

    heights = _joined([(x(step, 2 * columns), y(loss, 4 * height)) for step, loss in training])
    cells = [[0] * columns for _ in range(height)]
    for column, (top, bottom) in enumerate(heights):
        for row in range(max(0, top), min(4 * height - 1, bottom) + 1):
            cells[row // 4][column // 2] |= DOTS[column % 2][row % 4]
    rows = [Text("".join(chr(0x2800 + dots) if dots else " " for dots in row)) for row in cells]
    highest = training[0][1] if training else low
    begin = f"from {highest:.2f}"
    if highest > high and not rows[0].plain[: len(begin) + 1].strip():  # the scale begins below
        rows[0].plain = begin + rows[0].plain[len(begin) :]
    for step, loss in validation:
        row, column = rows[y(loss, height)], x(step, columns)
        row.plain = row.plain[:column] + MARK + row.plain[column + 1 :]
    for row in rows:
        row.highlight_regex(MARK, "bold magenta")
    digits = 2 if high - low >= 0.1 else 3
    labels = [f"{high:.{digits}f}", *[""] * (height - 2), f"{low:.{digits}f}"][:height]
    drawn = [
        Text.assemble(f"{label:>{LABEL - 2}}", " ┤" if label else " │", row)
        for label, row in zip(labels, rows, strict=True)
    ]
    return [*drawn, _axis(first, last, bool(validation), columns)]


def _axis(first: int, last: int, is_validated: bool, columns: int) -> Text:
    """First and last step, and between them, where there is room, what the lines are."""
    left, right = f"{first:,}", f"step {last:,}"
    about = "loss, nats a token" + (f"; {MARK} validation" if is_validated else "")
    room = columns - len(left) - len(right)
    middle = about.center(room) if room >= len(about) + 4 else " " * max(1, room)
    row = Text(" " * LABEL + left + middle + right)
    row.highlight_regex(MARK, "bold magenta")
    return row


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Each value as the mean of its neighbourhood."""
    reach = int(SMOOTHED * len(points) / 2)
    losses = [loss for _, loss in points]
    around = [losses[max(0, n - reach) : n + reach + 1] for n in range(len(losses))]
    return [(step, sum(near) / len(near)) for (step, _), near in zip(points, around, strict=True)]


def _joined(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each column from 0 on, the highest and the lowest dot of a line through the points, their means by column."""
    by_column: dict[int, list[int]] = {}
    for column, row in points:
        by_column.setdefault(column, []).append(row)
    means = [(column, round(sum(rows) / len(rows))) for column, rows in sorted(by_column.items())]
    heights: list[tuple[int, int]] = [(row, row) for _, row in means[:1]]
    for (column, row), (next_column, next_row) in itertools.pairwise(means):
        for between in range(column + 1, next_column + 1):
            before, here = (
                round(row + (next_row - row) * (at - column) / (next_column - column)) for at in (between - 1, between)
            )
            # the dots between two columns belong to the later one, without the dot that the earlier one has
            towards = before if before == here else before + (1 if here > before else -1)
            heights.append((min(towards, here), max(towards, here)))
    return heights
