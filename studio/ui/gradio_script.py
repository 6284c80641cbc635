"""A change of one script of Gradio's page, without which it grows slower with every event.

Gradio 6.31 shows the progress of a handler on its outputs, and while a stream runs on its inputs. At the end of every handler it takes the inputs
for those of a stream (resolve_args in StatusTracker: any `stream_state` counts, also "closed"), and from then on it copies the properties of each of
them at each step of each event. After a minute on the Train tab every click took seconds.
"""

import re
from pathlib import Path

import gradio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ASSETS = Path(gradio.__file__).parent / "templates" / "frontend" / "assets"
FAULT = re.compile(r"(\w+\.includes\(\w+\)&&(\w+))(\?`input`:)")


def changed_scripts() -> dict[str, str]:
    """File name -> text of the scripts with the fault, without it; none if this Gradio's look different."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.glob("statustracker-*.js")}
    return {name: FAULT.sub(r"\1&&\2!==`closed`\3", text) for name, text in texts.items() if len(FAULT.findall(text)) == 1}


def routes() -> list[Route]:
    """They answer before Gradio's own route of all assets. Public, as that is."""

    def served(text: str) -> Response:
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    answers = {name: served(text) for name, text in changed_scripts().items()}

    async def script(request: Request) -> Response:
        return answers[request.url.path.rpartition("/")[2]]

    return [Route(f"/assets/{name}", script) for name in answers]
