"""File routes of the page: images and archives of the caller's own Workspace, shipped images, and our JavaScript.

Gradio's file route would serve anyone who knows a path; this one serves only from the caller's Workspace.
"""

import functools
import hashlib
import secrets
from pathlib import Path
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from studio import builtin
from studio.core.errors import StudioError
from studio.core.storage import DiskFull
from studio.core.workspace import PLAIN_ID, Workspace, slug
from studio.datasets.dataset import Dataset
from studio.runs.run import Run
from studio.ui.studio import Studio

PREFIX = "/studio/file"
SCRIPTS = "/studio/script"
SCRIPTS_DIR = Path(__file__).parent / "static" / "js"
SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'"}
FRESH = SAFE | {"Cache-Control": "no-store"}
"""For what may differ the next time: errors, numbers that change, and files that are made on request."""
HEADERS = SAFE | {"Cache-Control": "private, max-age=86400"}
FOREVER = SAFE | {"Cache-Control": "public, max-age=31536000, immutable"}
"""For files whose address changes with every version."""
SHIPPED = ("first", "samples", "loras")
ALIVE, CHANGES = "/studio/alive", "/studio/changes"
NOT_FOUND = "This file does not exist, or no longer exists."


def url(kind: str, *parts: object) -> str:
    """Address of a file: image/<id>, init/<id>, picture/<dataset>/<sha> (and thumb/..., mask/...), sample/<run>/<step>/<row>, builtin/<path>;
    adapter/<run>/<step> is a LoRA, dataset/<id> a zip of a dataset, published/<name> a zip from the Publish tab.

    Relative, so that it works behind a path prefix.
    """
    return f"{PREFIX.lstrip('/')}/{kind}/{'/'.join(quote(str(part)) for part in parts)}"


def shipped_url(path: Path) -> str:
    return url("builtin", *path.relative_to(builtin.HERE).parts)


@functools.cache
def script_url() -> str:
    """Address of the page's script. It contains a hash of all scripts, so that a browser never mixes two versions."""
    scripts = b"".join(path.read_bytes() for path in sorted(SCRIPTS_DIR.glob("*.js")))
    return f"{SCRIPTS.lstrip('/')}/{hashlib.sha256(scripts).hexdigest()[:16]}/page.js"


def script(request: Request) -> Response:
    """Public, also before a login: the scripts are the same for everyone."""
    known = {path.name: path for path in SCRIPTS_DIR.glob("*.js")}
    if path := known.get(request.path_params["name"]):
        return FileResponse(path, headers=FOREVER, media_type="text/javascript")
    return PlainTextResponse(NOT_FOUND, status_code=404, headers=FRESH)


def routes(studio: Studio) -> list[Route]:
    """For `launch(app_kwargs={"routes": ...})`."""
    started = secrets.token_hex(8)

    def alive(request: Request) -> Response:
        """Tells static/js/away.js that the studio answers, and whether it was restarted."""
        return PlainTextResponse(started, headers=FRESH)

    def changes(request: Request) -> Response:
        """A number that changes with any job, for static/js/changes.js."""
        return PlainTextResponse(str(studio.jobs.data_version()), headers=FRESH)

    def answer(request: Request) -> Response:
        try:
            path = find(studio.home.workspace(studio.access.owner(request)), request.path_params["path"].split("/"))
        except DiskFull as error:
            return PlainTextResponse(studio.hidden_paths.hide(str(error)), status_code=507, headers=FRESH)
        except StudioError as error:
            return PlainTextResponse(studio.hidden_paths.hide(str(error)), status_code=404, headers=FRESH)
        if not path.is_file():
            return PlainTextResponse(NOT_FOUND, status_code=404, headers=FRESH)
        if path.suffix == ".safetensors":
            return FileResponse(path, filename=adapter_name(Run(path.parents[1]), path), headers=FRESH)
        if path.suffix == ".zip":
            return FileResponse(path, filename=path.name, headers=FRESH)
        return FileResponse(path, headers=HEADERS)

    return [Route(ALIVE, alive), Route(CHANGES, changes), Route(PREFIX + "/{path:path}", answer), Route(SCRIPTS + "/{version}/{name}", script)]


def find_address(workspace: Workspace, address: str) -> Path:
    """The file behind an address that `url` made and the page sent back."""
    prefix = f"{PREFIX.lstrip('/')}/"
    path = find(workspace, [unquote(part) for part in address.removeprefix(prefix).split("/")]) if address.startswith(prefix) else None
    if path is None or not path.is_file():
        raise StudioError(NOT_FOUND)
    return path


def adapter_name(run: Run, path: Path) -> str:
    """File name of a downloaded LoRA: the run's name and the step."""
    return f"{slug(run.title.replace(',', ''), 'lora')}-{int(path.stem.removeprefix('step-'))}.safetensors"


def find(workspace: Workspace, parts: list[str]) -> Path:
    """The file behind an address. The function that turns an id into a path also validates it."""
    match parts:
        case ["image", image_id]:
            return workspace.image_path(image_id)
        case ["init", image_id]:
            return workspace.init_path(image_id)
        case ["picture" | "thumb" as size, dataset_id, sha]:
            for image in Dataset.open(workspace, dataset_id).images:
                if image.id == sha:
                    return image.file if size == "picture" else image.thumb
        case ["mask", dataset_id, sha]:
            for image in Dataset.open(workspace, dataset_id).images:
                if image.mask and image.mask.stem == sha:
                    return image.mask
        case ["dataset", dataset_id]:
            dataset = Dataset.open(workspace, dataset_id)
            return dataset.export(workspace.published / f"{slug(dataset.title)}.zip")
        case ["published", name] if PLAIN_ID.fullmatch(name) and name.endswith(".zip"):
            return workspace.published / name
        case ["sample", run_id, step, row] if step.isdigit() and row.isdigit():
            samples = Run.open(workspace, run_id).samples().get(int(step), [])
            if int(row) < len(samples):
                return samples[int(row)]
        case ["adapter", run_id, step] if step.isdigit():
            saved = dict(Run.open(workspace, run_id).adapters())
            if int(step) in saved:
                return saved[int(step)]
        case ["builtin", folder, *rest] if folder in SHIPPED and rest:
            path = builtin.HERE.joinpath(folder, *rest).resolve()
            if path.is_relative_to(builtin.HERE / folder) and path.suffix == ".png":
                return path
    raise StudioError(NOT_FOUND)
