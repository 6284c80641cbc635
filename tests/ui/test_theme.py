"""The theme without the style sheets, as on Gradio's login page; and run colours that remain distinct with colour vision deficiency."""

import itertools
import re

import numpy
import pytest

from studio.ui.theme import COLOUR_STYLE, COLOURS, STYLES, theme


def test_every_variable_of_the_theme_is_defined_without_the_style_sheet():
    alone = theme()._get_theme_css()
    for value in COLOURS.values():
        for name in re.findall(r"var\((--[\w-]+)\)", value):
            assert len(re.findall(rf"{name}: #", alone)) >= 2, f"{name} is unknown on the login page, in light or in dark"


# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0: linear RGB as people without one kind of cone see it.
SIGHTS = {
    "all cones": numpy.eye(3),
    "protanopia": numpy.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": numpy.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": numpy.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
XYZ = numpy.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> numpy.ndarray:
    values = numpy.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return numpy.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: numpy.ndarray) -> numpy.ndarray:
    x, y, z = (numpy.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116 for value in XYZ @ rgb.clip(0, 1) / [0.95047, 1, 1.08883])
    return numpy.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_run_colours_are_readable_and_distinct_for_every_colour_vision(theme):
    block = COLOUR_STYLE.read_text().split("}")[["light", "dark"].index(theme)]
    named = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    colours, paper = [linear(named[f"run{number}"]) for number in range(1, 7)], linear(named["card"])
    for colour in colours:
        light, dark = sorted((float(XYZ[1] @ colour), float(XYZ[1] @ paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
    for sight in SIGHTS.values():
        distances = [numpy.linalg.norm(lab(sight @ one) - lab(sight @ other)) for one, other in itertools.combinations(colours, 2)]
        assert min(distances) >= 20, "a difference of 2 can just be seen side by side"


def test_text_has_the_five_sizes_of_the_scale():
    """Any other size would be a sixth; help is at least 13 px, labels in charts and on sliders at least 11 px."""
    sizes = dict(re.findall(r"--type-(\w+): (?:clamp\()?(\d+)px", COLOUR_STYLE.read_text()))
    assert {name: int(px) for name, px in sizes.items()} == {"mark": 12, "help": 13, "text": 15, "part": 18, "title": 21}
    for path in STYLES:
        others = re.findall(r"font-size: (?!var\(--type-|max\(12px)[^;}]*", path.read_text())
        assert others == [], path.name
