"""The look without style.css: Gradio's login page loads the theme alone."""

from studio.ui.theme import COLOURS, theme


def test_every_colour_of_the_theme_stands_without_the_style_sheet():
    made = vars(theme())
    for name, value in COLOURS.items():
        if value.startswith("var(--"):
            assert "#" in made[name], f"{name} is invisible on the login page: {made[name]}"
    assert made["body_background_fill_dark"] != made["body_background_fill"]
