"""Preview of a model card: its facts as labels, its text, and the sample images from this computer."""

import re

from studio.publishing.plan import Plan
from studio.ui import files
from studio.ui.components.templates import render

IMAGE = re.compile(r"images/(base-)?(\d+)\.png")


def show(made: Plan, run_id: str, step: int) -> tuple[str, str]:
    """(head as HTML, body as Markdown). Images point to the run's own samples, since nothing is uploaded yet."""
    head, _, body = made.card.removeprefix("---\n").partition("\n---\n")
    address = {found[0]: _address(found, run_id, step) for found in IMAGE.finditer(made.card)}
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


def _address(found: re.Match, run_id: str, step: int) -> str:
    base, number = found.groups()
    return files.url("sample", run_id, 0 if base else step, int(number) - 1)
