"""The loss curve: as an SVG file and as block characters for a terminal."""

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 64, 48, 40, 24
BLOCKS = " ▁▂▃▄▅▆▇█"


def loss_svg(training: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]], title: str) -> str:
    """A picture of bits per byte over steps; both lines are (step, bits per byte)."""
    points = [*training, *validation]
    last = max((step for step, _ in points), default=1)
    low = min((value for _, value in points), default=0.0)
    high = max((value for _, value in points), default=1.0)
    marks = _round_marks(low, high)
    low, high = min(low, marks[0]), max(high, marks[-1])

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(1, last)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / max(1e-9, high - low)

    def line(values: Sequence[tuple[int, float]], colour: str, width: float) -> str:
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in values)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    grid = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#ddd"/>'
        f'<text x="{LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>'
        for mark in marks
    ]
    ticks = [
        f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:,.0f}</text>'
        for step in (last * quarter / 4 for quarter in range(5))
    ]
    dots = [f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="3.5" fill="#d55e00"/>' for step, value in validation]
    middle = (LEFT + WIDTH - RIGHT) / 2
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="12" fill="#333">',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{middle}" y="24" text-anchor="middle" font-size="15">{escaped}</text>',
            *grid,
            *ticks,
            f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">step</text>',
            f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">bits per byte</text>',
            line(training, "#0072b2", 1.5),
            line(validation, "#d55e00", 2),
            *dots,
            f'<text x="{WIDTH - RIGHT - 140}" y="{TOP + 16}" fill="#0072b2">training</text>',
            f'<text x="{WIDTH - RIGHT - 70}" y="{TOP + 16}" fill="#d55e00">validation</text>',
            "</svg>\n",
        ]
    )


def loss_blocks(values: Sequence[float], width: int) -> str:
    """One line of `width` block characters, the highest value a full block, each the mean of its share of values."""
    if not values:
        return ""
    width = min(width, len(values))
    means = []
    for column in range(width):
        share = values[column * len(values) // width : (column + 1) * len(values) // width]
        means.append(sum(share) / len(share))
    low, high = min(means), max(means)
    return "".join(BLOCKS[1 + round((mean - low) / max(1e-9, high - low) * (len(BLOCKS) - 2))] for mean in means)


def _round_marks(low: float, high: float) -> list[float]:
    """About five round numbers from below `low` to above `high`."""
    span = max(1e-6, high - low)
    step = next(
        size * 10.0**exponent for exponent in range(-6, 7) for size in (1, 2, 5) if span / (size * 10.0**exponent) <= 5
    )
    first, count = int(low // step), 0
    while (first + count) * step < high:
        count += 1
    return [round((first + number) * step, 6) for number in range(count + 1)]
