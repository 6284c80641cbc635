"""Loss curves as small SVG plots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio.ui.components.templates import render

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 170, 48, 24
RIGHT, TOP = 8, 8
MAX_POINTS = 500
MIN_POINTS = 3
LABEL_HEIGHT = 16
"""Least distance between the numbers at the ends of two lines."""

Point = tuple[int, float]
Event = dict[str, Any]


def smooth(values: list[float], share: float = 0.95) -> list[float]:
    """Exponential moving average with bias correction (Adam's, Kingma & Ba 2015, section 3)."""
    out, mean = [], 0.0
    for i, value in enumerate(values, 1):
        mean = share * mean + (1 - share) * value
        out.append(mean / (1 - share**i))
    return out


def thin(points: list[Point], most: int = MAX_POINTS) -> list[Point]:
    """Every n-th point and always the last."""
    stride = max(1, -(-len(points) // most))
    kept = points[::stride]
    return kept if not points or kept[-1] == points[-1] else [*kept[: most - 1], points[-1]]


@dataclass(frozen=True)
class Axes:
    """Range of the data and its mapping to the plot."""

    last: int
    low: float
    high: float
    right: int = RIGHT

    def x(self, step: int) -> float:
        return LEFT + (WIDTH - LEFT - self.right) * step / max(self.last, 1)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - BOTTOM - TOP) * (1 - (max(self.low, min(value, self.high)) - self.low) / (self.high - self.low))

    def project(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        return [(self.x(step), self.y(value)) for step, value in points]

    def path(self, points: Sequence[Point], css_class: str = "") -> str:
        return render("loss_plot", "path", css_class, self.project(points))

    def dots(self, points: Sequence[Point], radius: float, css_class: str) -> str:
        return render("loss_plot", "dots", css_class, self.project(points), radius)

    def plot(self, parts: list[str], css_class: str, description: str) -> str:
        """The whole plot: grid lines with their values, `parts`, and both ends of the step axis."""
        marks = [(value, self.y(value)) for value in (self.low, (self.low + self.high) / 2, self.low + (self.high - self.low) / 1.08)]
        return render("loss_plot", "plot", css_class, description, WIDTH, HEIGHT, LEFT, WIDTH - self.right, marks, f"{self.last:,}", parts)


def loss(curve: Sequence[Event], total: int, validation: Sequence[Event] = ()) -> str:
    """SVG of step events {step, loss} and of validation events; empty while there are too few points."""
    if len(curve) < MIN_POINTS:
        return ""
    line = thin(_smoothed(curve))
    dots = thin(_points(curve), 240)
    validated = thin(_points(validation))
    ordered = sorted(value for _, value in dots)
    high = max(ordered[int(len(ordered) * 0.97)], *(value for _, value in [*line, *validated])) * 1.08 or 1.0
    axes = Axes(max(total, curve[-1]["step"]), 0.0, high)
    parts = [axes.dots(dots, 1.6, "dots"), axes.path(line)]
    description = f"Loss, smoothed: {line[-1][1]:.3g} at step {curve[-1]['step']}"
    if validated:
        parts += [axes.path(validated, "validation"), axes.dots(validated, 2.6, "validation")]
        description += f"; validation loss: {validated[-1][1]:.3g} at step {validated[-1][0]}"
    return axes.plot(parts, "loss", description)


@dataclass(frozen=True)
class Line:
    """One of several runs: its step events and its validation events."""

    title: str
    curve: Sequence[Event]
    validation: Sequence[Event] = ()


def overlaid(lines: Sequence[Line]) -> str:
    """Smoothed curves in one plot, each with its number (from 1) at its end; empty while none has enough points.

    The scale begins near the lowest point, because the distance between the lines is what is compared.
    """
    smoothed = {number: thin(_smoothed(line.curve)) for number, line in enumerate(lines, 1) if len(line.curve) >= MIN_POINTS}
    if not smoothed:
        return ""
    validated = {number: _points(line.validation) for number, line in enumerate(lines, 1)}
    values = sorted(value for points in [*smoothed.values(), *validated.values()] for _, value in points)
    # The first steps are hardly smoothed; a single outlier must not flatten all lines.
    low, high = values[0], values[int((len(values) - 1) * 0.985)]
    margin = (high - low) * 0.08 or 0.5
    axes = Axes(max(points[-1][0] for points in smoothed.values()), max(0.0, low - margin), high + margin, right=28)
    parts = [axes.path(points, f"c{number}") for number, points in smoothed.items()]
    parts += [axes.path(points, f"c{number} validation") for number, points in validated.items() if points]
    ends = spread({number: axes.y(points[-1][1]) for number, points in smoothed.items()})
    parts += [render("loss_plot", "end", number, axes.x(smoothed[number][-1][0]) + 6, y + 4) for number, y in ends.items()]
    listed = "; ".join(f"{number}, {lines[number - 1].title}: {points[-1][1]:.3g} at step {points[-1][0]}" for number, points in smoothed.items())
    return axes.plot(parts, "loss curves", f"Loss, smoothed. {listed}")


def spread(heights: dict[int, float], least: float = LABEL_HEIGHT) -> dict[int, float]:
    """The same heights, moved so that no two are closer than `least`; the lowest ones stay inside the plot."""
    placed: dict[int, float] = {}
    floor: float = TOP
    for number, y in sorted(heights.items(), key=lambda item: item[1]):
        placed[number] = floor = max(y, floor)
        floor += least
    over = max(0.0, floor - least - (HEIGHT - BOTTOM))
    return {number: y - over for number, y in placed.items()}


def _points(events: Sequence[Event]) -> list[Point]:
    return [(event["step"], event["loss"]) for event in events]


def _smoothed(curve: Sequence[Event]) -> list[Point]:
    return list(zip([event["step"] for event in curve], smooth([event["loss"] for event in curve]), strict=True))
