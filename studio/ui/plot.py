"""The loss of a run as a small drawing: pale points, one smoothed line, numbers only where they help."""

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 170, 44, 24
MOST_POINTS = 500


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


def loss(curve: Sequence[dict], total: int) -> str:
    """SVG of step events {step, loss}; an empty string while there are too few to draw."""
    if len(curve) < 3:
        return ""
    steps = [event["step"] for event in curve]
    smoothed = smooth([event["loss"] for event in curve])
    line = thin(list(zip(steps, smoothed, strict=True)))
    dots = thin([(event["step"], event["loss"]) for event in curve], 240)
    ordered = sorted(value for _, value in dots)
    low, high = 0.0, max(ordered[int(len(ordered) * 0.97)], max(v for _, v in line)) * 1.08 or 1.0

    def x(step: int) -> float:
        return LEFT + (WIDTH - LEFT - 8) * step / max(total, steps[-1], 1)

    def y(value: float) -> float:
        return 8 + (HEIGHT - BOTTOM - 8) * (1 - (min(value, high) - low) / (high - low))

    path = "M" + " L".join(f"{x(s):.1f} {y(v):.1f}" for s, v in line)
    circles = "".join(f'<circle cx="{x(s):.1f}" cy="{y(v):.1f}" r="1.6"/>' for s, v in dots)
    marks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2g}</text>'
        for v in (0, high / 2, high / 1.08)
    )
    ends = f'<text x="{LEFT}" y="{HEIGHT - 4}">0</text><text x="{WIDTH - 8}" y="{HEIGHT - 4}" text-anchor="end">step {max(total, steps[-1]):,}</text>'
    return (
        f'<svg class="loss" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss, smoothed: {line[-1][1]:.3g} at step {steps[-1]}">'
        f'{marks}<g class="dots">{circles}</g><path d="{path}"/>{ends}</svg>'
    )
