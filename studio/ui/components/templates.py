"""HTML from the Jinja2 templates under studio/ui/templates: every value is escaped there unless it is HTML that a template made."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension

TEMPLATES = Path(__file__).parents[1] / "templates"
LINE_BREAK = re.compile(r"(?:(?<=>)|(?<=[%#]\}))\s*\n\s*|\s*\n\s*(?=<|\{[%#])")


class OneLine(Extension):
    """Lines of a template are for its reader: the page gets no break beside an HTML tag or a Jinja block, where it would be a space that is seen.

    The break stays as a comment, so that errors name the right line. A space that is wanted beside a tag stands within a line.
    """

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return LINE_BREAK.sub(lambda found: "{#" + "\n" * found[0].count("\n") + "#}", source)


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    extensions=[OneLine],
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
    cache_size=-1,
)
"""A template is read and compiled when it is first used, once in the life of the process."""


def render(template: str, part: str, *values: object, **named: object) -> str:
    """HTML of one part (a macro) of `<template>.html`. What comes back is marked as HTML: in another template it is not escaped again."""
    return getattr(ENVIRONMENT.get_template(f"{template}.html").module, part)(*values, **named)
