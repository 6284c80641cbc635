"""Scripts of Gradio's page that are served with a change, because a fault in them costs the user time or an answer.

Each change is a regular expression that fits the script of Gradio 6.31 once. A script that looks different is served as it is, and a test fails.
"""

import re
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
    files: str
    found: re.Pattern[str]
    replacement: str


CHANGES = (
    # Gradio shows the progress of a handler on its outputs, and while a stream runs on its inputs. At the end of each handler it takes the inputs
    # for those of a stream (any `stream_state` counts, also "closed"), and from then on it copies the properties of each of them at every step of
    # every event: after a minute on the Train tab a click took seconds.
    Change("statustracker-*.js", re.compile(r"(\w+\.includes\(\w+\)&&(\w+))(\?`input`:)"), r"\1&&\2!==`closed`\3"),
    # The server closes the stream of answers after the last one. A handler that was called at this moment is answered on the next stream, which
    # the page opens with the next event only, or never: the page must open one if an answer is still to come.
    Change(
        "index-*.js",
        re.compile(r"(msg===`close_stream`\)\{\w+\(\w+,(\w+)\.abort_controller\))(;return\})"),
        r"\1,\2.unclosed_events.size&&\2.open_stream()\3",
    ),
    # A handler whose answer came before the confirmation of its call has ended: nothing is to come for it.
    Change(
        "index-*.js",
        re.compile(
            r"(?<=;)(?P<id>\w+) in (?P<early>\w+)&&(?P<handle>\(\w+\[\w+\]\.forEach\(\w+=>\w+\(\w+\)\),delete \w+\[\w+\]\))"
            r",(?P<wait>\w+\[\w+\]=\w+,\w+\.add\(\w+\),\w+\.open\|\|await this\.open_stream\(\))"
        ),
        r"\g<early>[\g<id>]?.some(each=>each.msg===`process_completed`)?\g<handle>:(\g<id> in \g<early>&&\g<handle>,\g<wait>)",
    ),
)


def changed_scripts(changes: Sequence[Change] = CHANGES) -> dict[str, str]:
    """File name -> text of the scripts with a change."""
    texts: dict[str, str] = {}
    for change in changes:
        for path in ASSETS.glob(change.files):
            text = texts.get(path.name) or path.read_text(encoding="utf-8")
            if len(change.found.findall(text)) == 1:
                texts[path.name] = change.found.sub(change.replacement, text)
    return texts


def routes() -> list[Route]:
    """They answer before Gradio's own route of all assets. Public, as that is."""
    answers = {name: Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"}) for name, text in changed_scripts().items()}

    async def script(request: Request) -> Response:
        return answers[request.url.path.rpartition("/")[2]]

    return [Route(f"/assets/{name}", script) for name in answers]
