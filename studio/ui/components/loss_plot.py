"""Loss curves as small drawings: pale points or none, smoothed lines, numbers only where they help."""

from collections.abc import Sequence
from dataclasses import dataclass

from studio.ui.components.templates import render

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 170, 48, 24
RIGHT, TOP = 8, 8
MOST_POINTS = 500
FEWEST_POINTS = 3
LETTER = 16
"""Height of a line's number, so that two of them do not lie on each other."""


def smooth(values: list[float], share: float = 0.95) -> list[float]:
    """Exponential moving average without the bias of its start (Adam's correction, Kingma & Ba 2015, section 3)."""
    out, mean = [], 0.0
    for i, value in enumerate(values, 1):
        mean = share * mean + (1 - share) * value
        out.append(mean / (1 - share**i))
    return out


def thin(points: list[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """Every n-th point and always the last."""
    stride = max(1, -(-len(points) // most))
    kept = points[::stride]
    return kept if not points or kept[-1] == points[-1] else [*kept[: most - 1], points[-1]]


@dataclass(frozen=True)
class Frame:
    """What part of the numbers is shown, and where on the drawing."""

    last: int
    low: float
    high: float
    right: int = RIGHT

    def x(self, step: int) -> float:
        return LEFT + (WIDTH - LEFT - self.right) * step / max(self.last, 1)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - BOTTOM - TOP) * (1 - (max(self.low, min(value, self.high)) - self.low) / (self.high - self.low))

    def placed(self, points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
        return [(self.x(step), self.y(value)) for step, value in points]

    def path(self, points: Sequence[tuple[int, float]], looks: str = "") -> str:
        return render("loss_plot", "path", looks, self.placed(points))

    def dots(self, points: Sequence[tuple[int, float]], radius: float, looks: str) -> str:
        return render("loss_plot", "dots", looks, self.placed(points), radius)

    def drawn(self, parts: list[str], looks: str, words: str) -> str:
        """The whole picture: lines to read values from, what is inside, and both ends of the steps."""
        marks = [(value, self.y(value)) for value in (self.low, (self.low + self.high) / 2, self.low + (self.high - self.low) / 1.08)]
        return render("loss_plot", "drawing", looks, words, WIDTH, HEIGHT, LEFT, WIDTH - self.right, marks, f"{self.last:,}", parts)


def loss(curve: Sequence[dict], total: int, held_back: Sequence[dict] = ()) -> str:
    """SVG of step events {step, loss}, and of those of the pictures held back; an empty string while there are too few to draw."""
    if len(curve) < FEWEST_POINTS:
        return ""
    line = thin(_smoothed(curve))
    dots = thin([(event["step"], event["loss"]) for event in curve], 240)
    asked = thin([(event["step"], event["loss"]) for event in held_back])
    ordered = sorted(value for _, value in dots)
    high = max(ordered[int(len(ordered) * 0.97)], *(value for _, value in [*line, *asked])) * 1.08 or 1.0
    frame = Frame(max(total, curve[-1]["step"]), 0.0, high)
    inside = [frame.dots(dots, 1.6, "dots"), frame.path(line)]
    words = f"Loss, smoothed: {line[-1][1]:.3g} at step {curve[-1]['step']}"
    if asked:
        inside += [frame.path(asked, "held"), frame.dots(asked, 2.6, "held")]
        words += f"; of the pictures held back: {asked[-1][1]:.3g} at step {asked[-1][0]}"
    return frame.drawn(inside, "loss", words)


@dataclass(frozen=True)
class Line:
    """One of several runs: its step events and those of the pictures held back."""

    title: str
    curve: Sequence[dict]
    held_back: Sequence[dict] = ()


def overlaid(lines: Sequence[Line]) -> str:
    """Smoothed curves in one drawing, each with its number (from 1) at its end; empty while none has enough points.

    The scale begins near the lowest point: what matters here is the distance between lines.
    """
    smoothed = {number: thin(_smoothed(line.curve)) for number, line in enumerate(lines, 1) if len(line.curve) >= FEWEST_POINTS}
    if not smoothed:
        return ""
    asked = {number: [(event["step"], event["loss"]) for event in line.held_back] for number, line in enumerate(lines, 1)}
    values = sorted(value for points in [*smoothed.values(), *asked.values()] for _, value in points)
    # The first steps are smoothed over nothing; one wild one must not press all lines to the floor.
    low, high = values[0], values[int((len(values) - 1) * 0.985)]
    room = (high - low) * 0.08 or 0.5
    frame = Frame(max(points[-1][0] for points in smoothed.values()), max(0.0, low - room), high + room, right=28)
    inside = [frame.path(points, f"c{number}") for number, points in smoothed.items()]
    inside += [frame.path(points, f"c{number} held") for number, points in asked.items() if points]
    ends = apart({number: frame.y(points[-1][1]) for number, points in smoothed.items()})
    inside += [render("loss_plot", "end", number, frame.x(smoothed[number][-1][0]) + 6, y + 4) for number, y in ends.items()]
    words = "; ".join(f"{number}, {lines[number - 1].title}: {points[-1][1]:.3g} at step {points[-1][0]}" for number, points in smoothed.items())
    return frame.drawn(inside, "loss curves", f"Loss, smoothed. {words}")


def apart(heights: dict[int, float], least: float = LETTER) -> dict[int, float]:
    """The same heights, moved so far that no two are closer than `least`; the lowest ones on the drawing stay inside."""
    placed, floor = {}, TOP
    for number, y in sorted(heights.items(), key=lambda item: item[1]):
        placed[number] = floor = max(y, floor)
        floor += least
    over = max(0.0, floor - least - (HEIGHT - BOTTOM))
    return {number: y - over for number, y in placed.items()}


def _smoothed(curve: Sequence[dict]) -> list[tuple[int, float]]:
    return list(zip([event["step"] for event in curve], smooth([event["loss"] for event in curve]), strict=True))
