"""HTML from the Jinja2 templates under studio/ui/templates: every value is escaped unless a template produced it as HTML."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension

TEMPLATES = Path(__file__).parents[1] / "templates"
LINE_BREAK = re.compile(r"(?:(?<=>)|(?<=[%#]\}))\s*\n\s*|\s*\n\s*(?=<|\{[%#])")


class OneLine(Extension):
    """Removes the line breaks of a template beside HTML tags and Jinja blocks, where a browser would show a space.

    Each break stays as a comment, so that errors name the right line. To keep a space beside a tag, write it within a line.
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
"""Reads and compiles each template once, when it is first used."""


def render(template: str, part: str, *values: object, **named: object) -> str:
    """HTML of one part (a macro) of `<template>.html`. The result is marked as HTML, so that another template does not escape it again."""
    return getattr(ENVIRONMENT.get_template(f"{template}.html").module, part)(*values, **named)
