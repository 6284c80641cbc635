"""Gradio theme that uses the colours and sizes of colours.css, in light and dark mode."""

import re
from pathlib import Path

import gradio as gr

TYPE = {
    "xxs": "var(--type-mark)",
    "xs": "var(--type-mark)",
    "sm": "var(--type-help)",
    "md": "var(--type-text)",
    "lg": "var(--type-text)",
    "xl": "var(--type-part)",
    "xxl": "var(--type-title)",
}
"""Gradio's sizes of text, as sizes of colours.css."""
CSS = Path(__file__).parent / "static" / "css"
COLOUR_STYLE = CSS / "colours.css"
SHEETS = "colours frame text controls layout generate loras progress forms setup dataset runs publish lightbox about phone"
STYLES = [CSS / f"{name}.css" for name in SHEETS.split()]
"""In the order in which they are loaded: rules for narrow screens override the others."""
SYSTEM_FONTS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

COLOURS = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--quiet)",
    "background_fill_primary": "var(--card)",
    "background_fill_secondary": "var(--paper)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "border_color_accent_subdued": "var(--line)",
    "color_accent_soft": "var(--accent-soft)",
    "link_text_color": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "block_background_fill": "transparent",
    "block_border_color": "transparent",
    "block_label_background_fill": "transparent",
    "block_label_text_color": "var(--ink)",
    "block_title_text_color": "var(--ink)",
    "block_info_text_color": "var(--quiet)",
    "panel_background_fill": "var(--card)",
    "panel_border_color": "var(--line)",
    "input_background_fill": "var(--card)",
    "input_background_fill_focus": "var(--card)",
    "input_background_fill_hover": "var(--card)",
    "input_border_color": "var(--field)",
    "input_border_color_focus": "var(--accent)",
    "input_border_color_hover": "var(--field)",
    "input_placeholder_color": "var(--quiet)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent-deep)",
    "button_primary_text_color": "var(--on-accent)",
    "button_primary_text_color_hover": "var(--on-accent)",
    "button_primary_border_color": "var(--accent)",
    "button_primary_border_color_hover": "var(--accent-deep)",
    "button_secondary_background_fill": "var(--card)",
    "button_secondary_background_fill_hover": "var(--tint)",
    "button_secondary_text_color": "var(--ink)",
    "button_secondary_text_color_hover": "var(--ink)",
    "button_secondary_border_color": "var(--edge)",
    "button_secondary_border_color_hover": "var(--edge)",
    "button_cancel_background_fill": "var(--card)",
    "button_cancel_background_fill_hover": "var(--bad-soft)",
    "button_cancel_text_color": "var(--bad)",
    "button_cancel_text_color_hover": "var(--bad)",
    "button_cancel_border_color": "var(--edge)",
    "checkbox_background_color": "var(--card)",
    "checkbox_background_color_selected": "var(--accent)",
    "checkbox_border_color": "var(--field)",
    "checkbox_border_color_selected": "var(--accent)",
    "checkbox_border_color_focus": "var(--accent)",
    "checkbox_label_background_fill": "var(--card)",
    "checkbox_label_background_fill_hover": "var(--tint)",
    "checkbox_label_background_fill_selected": "var(--accent-soft)",
    "checkbox_label_border_color": "var(--field)",
    "checkbox_label_border_color_selected": "var(--accent)",
    "checkbox_label_text_color": "var(--ink)",
    "checkbox_label_text_color_selected": "var(--ink)",
    "slider_color": "var(--accent)",
    "table_border_color": "var(--line)",
    "table_even_background_fill": "var(--card)",
    "table_odd_background_fill": "var(--card)",
    "code_background_fill": "var(--tint)",
    "error_background_fill": "var(--bad-soft)",
    "error_border_color": "var(--bad)",
    "error_text_color": "var(--bad)",
}

SIZES = {
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_radius": "10px",
    "block_label_text_weight": "500",
    "block_title_text_weight": "500",
    "block_title_text_size": "*text_md",
    "block_info_text_size": "*text_sm",
    "block_shadow": "none",
    "button_large_radius": "10px",
    "button_small_radius": "8px",
    "button_medium_radius": "10px",
    "button_large_text_weight": "600",
    "button_medium_text_weight": "500",
    "button_large_padding": "11px 22px",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "checkbox_label_shadow": "none",
    "container_radius": "10px",
    "input_border_width": "1px",
    "button_border_width": "1px",
    "checkbox_label_border_width": "1px",
    "input_radius": "10px",
    "input_padding": "10px 12px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px var(--accent-soft)",
    "layout_gap": "16px",
    "form_gap_width": "0px",
    "section_header_text_weight": "600",
}


def login_css() -> str:
    """CSS for Gradio's login page, which loads the theme without the style sheets: the theme's variables, and no grey bands in the form."""
    blocks = re.findall(r"^(?::root|\.dark) \{.+?^\}", COLOUR_STYLE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, ".form { background: none !important; }"])


def theme() -> gr.themes.Base:
    """One accent and warm greys; every colour is a variable of colours.css, so light and dark mode are defined in one place."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.Size(name="studio", **TYPE),
    )
    known = set(vars(base))
    both = {f"{name}_dark": value for name, value in COLOURS.items() if f"{name}_dark" in known}
    made = base.set(**COLOURS, **both, **SIZES)
    made.custom_css = login_css()
    return made
