"""A model card as the Hub will show it: its facts as small labels, its text, and the sample pictures from this computer."""

import re

from studio.publishing.plan import Plan
from studio.ui import files
from studio.ui.components.templates import render

PICTURE = re.compile(r"images/(base-)?(\d+)\.png")


def show(made: Plan, run_id: str, step: int) -> tuple[str, str]:
    """(head as HTML, body as Markdown). Pictures point to the run's own samples, since nothing is uploaded yet."""
    head, _, body = made.card.removeprefix("---\n").partition("\n---\n")
    address = {path: _address(path, run_id, step) for path in {match[0] for match in PICTURE.finditer(made.card)}}
    gallery = [(address[sample.path], sample.prompt) for sample in made.facts.samples if sample.path in address]
    owner, _, name = (made.repo_id or made.facts.title).rpartition("/")
    shown = render("card_view", "head", owner, name, made.request.private, _labels(made), gallery)
    body = body.replace("<Gallery />", "")
    for path, there in address.items():
        body = body.replace(f"({path})", f"({there})").replace(f'"{path}"', f'"{there}"')
    return shown, body.strip()


def _labels(made: Plan) -> list[str]:
    about = made.facts
    licence = about.grant.name or about.grant.id or "none"
    return [f"licence: {licence}", f"base: {about.base.title}", "text-to-image", "lora", *about.family_tags[:1]]


def _address(path: str, run_id: str, step: int) -> str:
    base, number = PICTURE.fullmatch(path).groups()
    return files.url("sample", run_id, 0 if base else step, int(number) - 1)
