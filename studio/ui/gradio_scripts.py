"""Scripts of Gradio's page that are served with a change, because a fault in them costs the user time or an answer.

The changes and their reasons are in static/gradio_scripts.toml. A script that looks different is served as it is, and a test fails.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"


@dataclass(frozen=True)
class Change:
    """`files` is a pattern of file names, `found` one of their text."""

    files: str
    found: str
    replacement: str


CHANGES = tuple(
    Change(**each) for each in tomllib.loads((Path(__file__).parent / "static" / "gradio_scripts.toml").read_text(encoding="utf-8"))["change"]
)


def changed_scripts(changes: Sequence[Change] = CHANGES) -> dict[str, str]:
    """File name -> text of the scripts with a change."""
    texts: dict[str, str] = {}
    for change in changes:
        for path in ASSETS.glob(change.files):
            changed, count = re.subn(change.found, change.replacement, texts.get(path.name) or path.read_text(encoding="utf-8"))
            if count == 1:
                texts[path.name] = changed
    return texts


def routes() -> list[Route]:
    """They answer before Gradio's own route of all assets. Public, as that is."""
    answers = {name: Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"}) for name, text in changed_scripts().items()}

    async def script(request: Request) -> Response:
        return answers[request.url.path.rpartition("/")[2]]

    return [Route(f"/assets/{name}", script) for name in answers]
