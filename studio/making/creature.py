"""Pim, a creature that is not in the training world: a mint pear with one great eye, striped horns, a cream belly and a forked orange tail."""

from math import cos, pi

from studio.making.pen import RGB, Pen, Tones, oval_points

MINT: RGB = (112, 214, 190)
SHADE: RGB = (76, 174, 156)
CONTOUR: RGB = (38, 92, 92)
CORAL: RGB = (244, 120, 84)
CREAM: RGB = (255, 240, 206)
PLUM: RGB = (92, 44, 104)
WHITE: RGB = (255, 255, 255)
POSES = ("standing", "waving", "jumping", "sleeping")


def horn(pen: Pen, side: int) -> None:
    outline = [(side * 0.2, -0.56), (side * 0.5, -0.98), (side * 0.52, -0.46)]
    pen.shape(outline, PLUM, CONTOUR)
    pen.shape([(side * 0.3, -0.7), (side * 0.4, -0.84), (side * 0.51, -0.74), (side * 0.51, -0.62)], CREAM)


def tail(pen: Pen) -> None:
    pen.stroke([(0.4, 0.7), (0.72, 0.66), (0.84, 0.4)], CONTOUR, 0.2)
    pen.stroke([(0.4, 0.7), (0.72, 0.66), (0.84, 0.4)], MINT, 0.13)
    pen.shape([(0.82, 0.48), (0.62, 0.16), (0.82, 0.24), (0.98, 0.06), (1.0, 0.36)], CORAL, CONTOUR)


def arm(pen: Pen, side: int, raised: bool) -> None:
    hand = (side * 0.82, -0.2) if raised else (side * 0.7, 0.52)
    pen.stroke([(side * 0.44, 0.22), hand], CONTOUR, 0.22)
    pen.stroke([(side * 0.44, 0.22), hand], MINT, 0.15)
    pen.oval(*hand, 0.1, 0.1, CORAL, CONTOUR)


def creature(pen: Pen, pose: str) -> None:
    tail(pen)
    for side in (-1, 1):
        horn(pen, side)
        foot = 0.92 if pose != "jumping" else 0.84
        pen.oval(side * 0.3, foot, 0.24, 0.1, CORAL, CONTOUR)
        arm(pen, side, raised=pose == "jumping" or (pose == "waving" and side == -1))
    body = [*oval_points(0, -0.2, 0.54, 0.52, pi, 2 * pi, 16), *oval_points(0, 0.34, 0.62, 0.56, 0, pi, 18)]
    pen.shape(body, MINT, CONTOUR)
    pen.shape([*oval_points(0.1, 0.34, 0.48, 0.5, -1.1, 1.9, 14), *reversed(oval_points(-0.06, 0.3, 0.5, 0.5, -0.9, 1.8, 14))], SHADE)
    pen.oval(-0.02, 0.46, 0.34, 0.36, CREAM)
    for y in (0.34, 0.48, 0.62):
        pen.stroke([(-0.2, y), (-0.02, y + 0.04), (0.16, y)], CORAL, 0.05)
    if pose == "sleeping":
        pen.stroke([(0.3 * cos(a), -0.2 + 0.1 * (1 - cos(2 * a)) / 2 + 0.04) for a in (0.0, 0.6, 1.2, 1.9, 2.5, 3.1)], PLUM, 0.08)
    else:
        pen.oval(0, -0.2, 0.33, 0.33, WHITE, CONTOUR)
        pen.oval(-0.04, -0.18, 0.2, 0.21, PLUM)
        pen.oval(-0.1, -0.26, 0.07, 0.07, WHITE)
    pen.stroke([(-0.16, 0.14), (0, 0.2), (0.16, 0.14)], PLUM, 0.06)


def drawing_in(pose: str):
    """Draw the creature, for drawing.draw; it has fixed colours, and the tones are ignored."""

    def draw(pen: Pen, tone: Tones) -> None:
        creature(pen, pose)

    return draw
