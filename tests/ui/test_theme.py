"""The look without style.css: Gradio's login page loads the theme alone."""

import re

from studio.ui.theme import COLOURS, theme


def test_every_variable_of_the_theme_is_known_without_the_style_sheet():
    alone = theme()._get_theme_css()
    for value in COLOURS.values():
        for name in re.findall(r"var\((--[\w-]+)\)", value):
            assert len(re.findall(rf"{name}: #", alone)) >= 2, f"{name} is unknown on the login page, in light or in dark"
