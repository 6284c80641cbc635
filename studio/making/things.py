"""The sixteen things, each a few strokes of a pen in a box from -1 to 1; things on the ground have their base at y = 0.95."""

from math import cos, pi, sin

from studio.making.pen import RGB, Pen, Tones, oval_points

INK: RGB = (38, 32, 48)
CREAM: RGB = (255, 246, 222)
WINDOW: RGB = (255, 232, 150)
GLASS: RGB = (206, 232, 246)
WOOD: RGB = (140, 92, 58)
LEAF: RGB = (84, 168, 84)
WHITE: RGB = (255, 255, 255)


def circle(pen: Pen, tone: Tones) -> None:
    pen.oval(0, 0, 0.93, 0.93, tone.dark, tone.line)
    pen.oval(-0.07, -0.07, 0.82, 0.82, tone.base)
    pen.oval(-0.34, -0.4, 0.26, 0.18, tone.light)


def square(pen: Pen, tone: Tones) -> None:
    corner = 0.16
    outline = []
    for x, y, start in ((0.88, 0.88, 0), (-0.88, 0.88, pi / 2), (-0.88, -0.88, pi), (0.88, -0.88, 3 * pi / 2)):
        outline += oval_points(x - corner * (1 if x > 0 else -1), y - corner * (1 if y > 0 else -1), corner, corner, start, start + pi / 2, 7)
    pen.shape(outline, tone.dark, tone.line)
    pen.shape([(x * 0.88 - 0.06, y * 0.88 - 0.06) for x, y in outline], tone.base)
    pen.stroke([(-0.62, -0.3), (-0.62, -0.62), (-0.3, -0.62)], tone.light, 0.13)


def star(pen: Pen, tone: Tones) -> None:
    tips = [(0.98 * sin(2 * pi * k / 5), 0.06 - 0.98 * cos(2 * pi * k / 5)) for k in range(5)]
    dips = [(0.46 * sin(2 * pi * (k + 0.5) / 5), 0.06 - 0.46 * cos(2 * pi * (k + 0.5) / 5)) for k in range(5)]
    outline = [point for pair in zip(tips, dips) for point in pair]
    pen.shape(outline, tone.base, tone.line)
    for index in range(5):
        pen.shape([(0, 0.06), tips[index], dips[index]], tone.dark if index in (1, 2, 0) else tone.base)
        pen.shape([(0, 0.06), tips[index], dips[index - 1]], tone.light if index in (0, 4) else tone.base)
    pen.shape(outline, tone.base, tone.line, alpha=90)


def heart(pen: Pen, tone: Tones) -> None:
    angles = [2 * pi * index / 47 for index in range(47)]
    outline = [(0.058 * 16 * sin(a) ** 3, -0.02 - 0.06 * (13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a))) for a in angles]
    pen.shape(outline, tone.dark, tone.line)
    pen.shape([(x * 0.86 - 0.05, y * 0.86 - 0.06) for x, y in outline], tone.base)
    pen.shape([(x * 0.2 - 0.46, y * 0.2 - 0.42) for x, y in oval_points(0, 0, 1.1, 0.8)], tone.light)


def house(pen: Pen, tone: Tones) -> None:
    pen.shape([(0.36, -0.95), (0.58, -0.95), (0.58, -0.3), (0.36, -0.5)], tone.dark, tone.line)
    pen.shape([(-0.74, -0.12), (0.74, -0.12), (0.74, 0.95), (-0.74, 0.95)], tone.base, tone.line)
    pen.shape([(0.4, -0.1), (0.72, -0.1), (0.72, 0.93), (0.4, 0.93)], tone.dark, alpha=110)
    pen.shape([(-0.98, -0.06), (0, -0.88), (0.98, -0.06)], tone.dark, tone.line)
    pen.shape([(-0.72, -0.14), (-0.02, -0.72), (0.0, -0.56), (-0.5, -0.14)], tone.base)
    pen.shape([(-0.2, 0.95), (-0.2, 0.42), *oval_points(0, 0.42, 0.2, 0.18, pi, 2 * pi, 9), (0.2, 0.95)], WOOD, tone.line)
    for x in (-0.48, 0.48):
        pen.shape([(x - 0.16, 0.12), (x + 0.16, 0.12), (x + 0.16, 0.46), (x - 0.16, 0.46)], WINDOW, tone.line)
        pen.stroke([(x, 0.14), (x, 0.44)], tone.line, 0.05)


def tree(pen: Pen, tone: Tones) -> None:
    pen.shape([(-0.14, 0.1), (0.14, 0.1), (0.17, 0.8), (0.28, 0.95), (-0.28, 0.95), (-0.17, 0.8)], WOOD, (92, 58, 40))
    pen.stroke([(0.02, 0.5), (0.2, 0.3)], WOOD, 0.09)
    puffs: tuple[tuple[float, float, float, float], ...] = (
        (-0.44, -0.02, 0.46, 0.4),
        (0.44, -0.02, 0.46, 0.4),
        (-0.28, -0.5, 0.44, 0.42),
        (0.3, -0.46, 0.46, 0.42),
        (0, -0.2, 0.6, 0.52),
    )
    for puff in puffs:
        pen.oval(*puff, tone.dark, tone.line)
    for x, y, rx, ry in puffs:
        pen.oval(x - 0.02, y - 0.03, rx * 0.94, ry * 0.92, tone.dark)
        pen.oval(x - 0.05, y - 0.07, rx * 0.9, ry * 0.86, tone.base)
    pen.oval(-0.36, -0.56, 0.2, 0.15, tone.light)
    pen.oval(0.2, -0.3, 0.12, 0.09, tone.light)
    pen.oval(-0.5, -0.1, 0.1, 0.08, tone.light)


def fish(pen: Pen, tone: Tones) -> None:
    pen.shape([(0.42, 0), (0.96, -0.5), (0.84, 0), (0.96, 0.5)], tone.dark, tone.line)
    pen.shape([(-0.2, -0.4), (0.1, -0.78), (0.36, -0.34)], tone.dark, tone.line)
    pen.shape([(-0.1, 0.4), (0.14, 0.72), (0.3, 0.34)], tone.dark, tone.line)
    body = oval_points(-0.2, 0, 0.76, 0.52)
    pen.shape(body, tone.base, tone.line)
    pen.shape([*oval_points(-0.22, 0.06, 0.66, 0.4, 0.1, pi - 0.1, 14)], tone.light)
    for x in (0.02, 0.26):
        pen.stroke([(x, -0.34 + x * 0.3), (x + 0.1, 0), (x, 0.34 - x * 0.3)], tone.dark, 0.09)
    pen.stroke([(-0.4, -0.3), (-0.32, 0), (-0.4, 0.3)], tone.line, 0.04)
    pen.oval(-0.62, -0.12, 0.14, 0.14, WHITE, tone.line)
    pen.oval(-0.65, -0.12, 0.07, 0.07, INK)


def cat(pen: Pen, tone: Tones) -> None:
    pen.stroke([(0.36, 0.8), (0.72, 0.78), (0.86, 0.5), (0.78, 0.2), (0.62, 0.1)], tone.line, 0.26)
    pen.stroke([(0.36, 0.8), (0.72, 0.78), (0.86, 0.5), (0.78, 0.2), (0.62, 0.1)], tone.dark, 0.18)
    pen.shape([*oval_points(-0.06, 0.5, 0.52, 0.6, pi, 2 * pi, 18), (0.5, 0.95), (-0.62, 0.95)], tone.base, tone.line)
    pen.oval(-0.06, 0.72, 0.24, 0.24, tone.light)
    for x in (-0.26, 0.14):
        pen.oval(x, 0.88, 0.15, 0.09, tone.light, tone.line)
    for side in (-1, 1):
        pen.shape([(-0.06 + side * 0.56, -0.96), (-0.06 + side * 0.6, -0.26), (-0.06 + side * 0.1, -0.6)], tone.base, tone.line)
        pen.shape([(-0.06 + side * 0.48, -0.76), (-0.06 + side * 0.5, -0.44), (-0.06 + side * 0.26, -0.58)], (250, 176, 186))
    pen.oval(-0.06, -0.26, 0.62, 0.48, tone.base, tone.line)
    pen.oval(-0.06, -0.06, 0.26, 0.19, tone.light)
    for side in (-1, 1):
        pen.oval(-0.06 + side * 0.28, -0.3, 0.12, 0.14, WHITE, tone.line)
        pen.oval(-0.06 + side * 0.27, -0.29, 0.07, 0.1, INK)
        pen.stroke([(-0.06 + side * 0.34, -0.06), (-0.06 + side * 0.68, -0.1)], tone.line, 0.035)
        pen.stroke([(-0.06 + side * 0.34, 0.02), (-0.06 + side * 0.66, 0.06)], tone.line, 0.035)
    pen.shape([(-0.13, -0.16), (0.01, -0.16), (-0.06, -0.07)], (236, 110, 130))


def boat(pen: Pen, tone: Tones) -> None:
    pen.stroke([(0, 0.5), (0, -0.94)], WOOD, 0.08)
    pen.shape([(0.07, -0.8), (0.07, 0.32), (0.76, 0.32), (0.5, -0.3)], CREAM, tone.line)
    pen.shape([(0.07, 0.02), (0.07, 0.2), (0.72, 0.2), (0.68, 0.02)], tone.base)
    pen.shape([(-0.08, -0.62), (-0.08, 0.32), (-0.62, 0.32)], tone.base, tone.line)
    pen.shape([(0, -0.98), (-0.34, -0.86), (0, -0.74)], tone.base, tone.line)
    hull = [(-0.94, 0.44), (0.94, 0.44), (0.66, 0.84), (0.5, 0.93), (-0.5, 0.93), (-0.66, 0.84)]
    pen.shape(hull, tone.base, tone.line)
    pen.shape([(-0.8, 0.66), (0.78, 0.66), (0.64, 0.84), (0.5, 0.92), (-0.5, 0.92), (-0.64, 0.84)], tone.dark)
    pen.stroke([(-0.84, 0.52), (0.84, 0.52)], tone.light, 0.07)
    for x in (-0.36, 0, 0.36):
        pen.oval(x, 0.68, 0.07, 0.07, CREAM, tone.line)


def umbrella(pen: Pen, tone: Tones) -> None:
    pen.stroke([(0, -0.86), (0, 0.68), *[(0.16 - 0.16 * cos(a), 0.72 + 0.2 * sin(a)) for a in (0.4, 0.9, 1.57, 2.2, 2.8)]], WOOD, 0.09)
    scallops = [(-0.96, 0.06)]
    dome = oval_points(0, 0.06, 0.96, 0.86, pi, 2 * pi, 28)
    edges = [0.96 - 0.48 * k for k in range(5)]
    for right, left in zip(edges, edges[1:]):
        scallops += oval_points((right + left) / 2, 0.06, 0.24, 0.13, 0, -pi, 9)
    pen.shape([*dome, *scallops[1:]], tone.base, tone.line)
    for left, right, fill in ((-0.96, -0.48, tone.dark), (0.0, 0.48, tone.light), (0.48, 0.96, tone.dark)):
        rim = oval_points((left + right) / 2, 0.06, 0.24, 0.11, 0, -pi, 9)
        ribs = [(left * cos(a) * 0.98, 0.06 - 0.83 * sin(a)) for a in (1.5, 1.2, 0.9, 0.6, 0.3, 0.05)]
        back = [(right * cos(a) * 0.98, 0.06 - 0.83 * sin(a)) for a in (0.05, 0.3, 0.6, 0.9, 1.2, 1.5)]
        pen.shape([*ribs, *reversed(rim), *back], fill, alpha=150)
    pen.shape([*dome, *scallops[1:]], tone.base, tone.line, alpha=40)
    pen.stroke([(0, -0.84), (0, -0.97)], tone.line, 0.09)


def face(pen: Pen, tone: Tones) -> None:
    for side in (-1, 1):
        pen.oval(side * 0.82, 0.08, 0.16, 0.2, tone.base, tone.line)
        pen.oval(side * 0.82, 0.08, 0.08, 0.1, tone.dark)
    pen.oval(0, 0.06, 0.8, 0.86, tone.base, tone.line)
    pen.shape(
        [*oval_points(0, 0.06, 0.8, 0.86, pi + 0.15, 2 * pi - 0.15, 18), (0.46, -0.3), (0.2, -0.46), (0, -0.3), (-0.24, -0.46), (-0.5, -0.28)],
        tone.dark,
        tone.line,
    )
    for side in (-1, 1):
        pen.oval(side * 0.32, 0.02, 0.15, 0.18, WHITE, tone.line)
        pen.oval(side * 0.3, 0.04, 0.08, 0.1, INK)
        pen.oval(side * 0.5, 0.34, 0.13, 0.08, (244, 130, 130), alpha=150)
    pen.stroke([(0.34 * cos(a), 0.38 + 0.24 * sin(a)) for a in (0.25, 0.6, 1.0, 1.57, 2.1, 2.5, 2.9)], INK, 0.08)
    pen.oval(0, 0.24, 0.09, 0.07, tone.dark)


def car(pen: Pen, tone: Tones) -> None:
    pen.shape([(-0.56, 0.1), (-0.36, -0.42), (0.34, -0.42), (0.62, 0.1)], tone.base, tone.line)
    pen.shape([(-0.42, 0.08), (-0.28, -0.3), (-0.04, -0.3), (-0.04, 0.08)], GLASS, tone.line)
    pen.shape([(0.08, 0.08), (0.08, -0.3), (0.28, -0.3), (0.46, 0.08)], GLASS, tone.line)
    pen.shape([(-0.97, 0.62), (-0.95, 0.22), (-0.8, 0.08), (0.66, 0.08), (0.9, 0.2), (0.97, 0.4), (0.97, 0.62)], tone.base, tone.line)
    pen.shape([(-0.95, 0.44), (0.96, 0.44), (0.96, 0.62), (-0.95, 0.62)], tone.dark)
    pen.stroke([(-0.76, 0.18), (0.6, 0.18)], tone.light, 0.07)
    pen.oval(0.87, 0.34, 0.08, 0.1, WINDOW, tone.line)
    pen.oval(-0.9, 0.36, 0.05, 0.09, (226, 70, 60))
    for x in (-0.54, 0.54):
        pen.oval(x, 0.66, 0.28, 0.28, INK)
        pen.oval(x, 0.66, 0.14, 0.14, (196, 198, 206))


def flower(pen: Pen, tone: Tones) -> None:
    pen.stroke([(0, 0.95), (0.04, 0.5), (0, 0.0)], (58, 132, 66), 0.1)
    pen.shape([(0.03, 0.78), (0.3, 0.44), (0.56, 0.46), (0.4, 0.72)], LEAF, (46, 110, 58))
    pen.shape([(0.02, 0.86), (-0.24, 0.56), (-0.5, 0.58), (-0.36, 0.82)], LEAF, (46, 110, 58))
    for k in range(7):
        angle = 2 * pi * k / 7 - pi / 2
        pen.oval(0.43 * cos(angle), -0.34 + 0.43 * sin(angle), 0.25, 0.25, tone.base if k % 2 else tone.dark, tone.line)
        pen.oval(0.46 * cos(angle) - 0.03, -0.36 + 0.46 * sin(angle), 0.15, 0.15, tone.light if k in (6, 0, 5) else tone.base)
    heart_of_it = (252, 214, 84) if tone.base[2] > 70 or tone.base[0] < 200 or tone.base[1] < 100 else (140, 88, 50)
    pen.oval(0, -0.34, 0.24, 0.24, heart_of_it, tone.line)
    pen.oval(-0.06, -0.4, 0.08, 0.07, CREAM)


def bird(pen: Pen, tone: Tones) -> None:
    for x in (-0.04, 0.16):
        pen.stroke([(x, 0.5), (x + 0.02, 0.9), (x - 0.12, 0.94)], (228, 140, 48), 0.06)
    pen.shape([(0.4, 0.2), (0.98, -0.12), (0.92, 0.16), (0.98, 0.34), (0.44, 0.46)], tone.dark, tone.line)
    pen.oval(0.06, 0.2, 0.58, 0.46, tone.base, tone.line)
    pen.oval(-0.38, -0.32, 0.4, 0.38, tone.base, tone.line)
    pen.shape([(-0.7, -0.12), (-0.42, -0.08), (-0.06, -0.22), (0.2, 0.0), (0.0, 0.5), (-0.4, 0.34)], tone.base)
    pen.oval(-0.14, 0.36, 0.32, 0.22, tone.light)
    pen.shape([(-0.06, 0.02), (0.34, -0.02), (0.66, 0.24), (0.3, 0.4), (0.02, 0.3)], tone.dark, tone.line)
    pen.shape([(-0.74, -0.42), (-1.0, -0.24), (-0.74, -0.16)], (246, 170, 52), (176, 108, 40))
    pen.oval(-0.48, -0.38, 0.12, 0.12, WHITE, tone.line)
    pen.oval(-0.5, -0.38, 0.06, 0.06, INK)
    pen.stroke([(-0.3, -0.68), (-0.2, -0.86)], tone.line, 0.06)
    pen.stroke([(-0.38, -0.7), (-0.38, -0.92)], tone.line, 0.06)


def mushroom(pen: Pen, tone: Tones) -> None:
    pen.shape([(-0.26, 0.1), (0.26, 0.1), (0.3, 0.6), (0.4, 0.92), (0.2, 0.95), (-0.2, 0.95), (-0.4, 0.92), (-0.3, 0.6)], CREAM, (168, 148, 120))
    pen.shape([(0.06, 0.14), (0.24, 0.14), (0.28, 0.6), (0.36, 0.9), (0.12, 0.92)], (232, 214, 184))
    cap = [*oval_points(0, 0.12, 0.95, 0.98, pi, 2 * pi, 28), *oval_points(0, 0.12, 0.95, 0.2, 0, pi, 16)]
    pen.shape(cap, tone.base, tone.line)
    pen.shape([*oval_points(0, 0.1, 0.92, 0.2, 0, pi, 16), *oval_points(0, 0.08, 0.9, 0.02, pi, 2 * pi, 10)], tone.dark)
    spot = CREAM if sum(tone.base) < 690 else (226, 178, 172)
    for x, y, rx, ry in (
        (-0.1, -0.5, 0.22, 0.17),
        (0.44, -0.3, 0.17, 0.15),
        (-0.56, -0.18, 0.15, 0.14),
        (0.12, -0.08, 0.14, 0.1),
        (0.72, 0.0, 0.09, 0.09),
    ):
        pen.oval(x, y, rx, ry, spot, tone.line)


def cup(pen: Pen, tone: Tones) -> None:
    pen.oval(-0.08, 0.8, 0.84, 0.15, tone.dark, tone.line)
    pen.oval(0.62, 0.16, 0.3, 0.28, tone.base, tone.line)
    pen.oval(0.62, 0.16, 0.15, 0.14, CREAM, tone.line)
    pen.shape([(-0.78, -0.22), (0.62, -0.22), (0.5, 0.52), (0.3, 0.78), (-0.46, 0.78), (-0.66, 0.52)], tone.base, tone.line)
    pen.shape([(0.26, -0.2), (0.58, -0.2), (0.47, 0.5), (0.28, 0.75), (0.04, 0.75)], tone.dark)
    pen.stroke([(-0.58, 0.06), (-0.5, 0.44)], tone.light, 0.13)
    pen.oval(-0.08, -0.22, 0.7, 0.14, tone.light, tone.line)
    pen.oval(-0.08, -0.21, 0.58, 0.09, (126, 78, 52))
    for x in (-0.34, -0.04, 0.26):
        pen.stroke([(x, -0.46), (x + 0.08, -0.6), (x - 0.04, -0.76), (x + 0.05, -0.92)], (236, 232, 240), 0.07)


DRAWINGS = {
    "circle": circle, "square": square, "star": star, "heart": heart, "house": house, "tree": tree, "fish": fish, "cat": cat,
    "boat": boat, "umbrella": umbrella, "face": face, "car": car, "flower": flower, "bird": bird, "mushroom": mushroom, "cup": cup,
}  # fmt: skip
