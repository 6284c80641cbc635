"""Imports, as jobs with their own process: images and captions, LoRA files, LoRAs from the Hub."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from studio.adapters.format import fingerprint
from studio.adapters.header import read_header
from studio.core import hashes, storage
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace, new_id, write_atomically
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import clean_text, decode_files
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Job

log = logging.getLogger(__name__)
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions that a parser may raise on untrusted bytes."""


def import_images(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """{"dataset", "files": [{"path", "name"}]} -> {"added", "captions", "masks", "refused": [{"name", "reason"}], "notes"}.

    A file with "mask_of", the id of an image, is the mask of that image whatever its name.
    """
    dataset = Dataset.open(home.workspace(job.owner), job.payload["dataset"])
    with dataset.incoming() as folder:
        decoded = decode_files(job.payload["files"], folder, report, dataset.images)
        report(len(job.payload["files"]), len(job.payload["files"]), "Adding the images")
        return dataset.add(decoded, folder)


def import_adapters(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """{"files": [{"path", "name"}]} -> {"adapters": [refs], "refused": [{"name", "reason"}]}."""
    workspace = home.workspace(job.owner)
    files, refs, refused = job.payload["files"], [], []
    for index, file in enumerate(files):
        name = clean_text(file["name"], 120)
        report(index, len(files), f"Checking {name}")
        try:
            refs.append(store_adapter(workspace, Path(file["path"]), Path(name).stem, {"file": name}))
        except StudioError as error:
            refused.append({"name": name, "reason": str(error)})
        except OSError as error:
            refused.append({"name": name, "reason": f"{name} could not be read or stored ({error.strerror or error}); import it again."})
        except DAMAGE as error:
            # A kind of damage that the checks did not foresee: a bug here, but the other files must still be imported.
            log.exception("reading a header failed")
            refused.append({"name": name, "reason": f"{name} is damaged ({type(error).__name__}); download or export it again."})
    return {"adapters": refs, "refused": refused}


def download_adapter(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """{"repo_id", "revision", "filename"} -> {"adapters": [ref], "refused": [], "revision"}; `secret` is the token for a private or gated repo."""
    # Imported here: the Hub client takes a second to import, and image imports do not need it.
    from studio.hub import client

    request = job.payload
    token = client.read_token(secret.decode()) if secret else None
    found = client.download_adapter(
        request["repo_id"],
        request.get("revision"),
        request.get("filename"),
        token,
        lambda done, total: report(done, total, f"Downloading {request['repo_id']}"),
    )
    source = {"hub": found.repo_id, "revision": found.revision, "file": found.filename, "licence": found.licence, "base_model": found.base_model}
    words = [clean_text(found.trigger_word, 60)] if found.trigger_word else []
    ref = store_adapter(home.workspace(job.owner), found.path, found.title, source, words)
    return {"adapters": [ref], "refused": [], "revision": found.revision}


def store_adapter(workspace: Workspace, path: Path, title: str, source: dict, trigger_words: Sequence[str] = ()) -> str:
    """Check the header of a LoRA file and copy it into the workspace; returns its ref. No weights are read and nothing is unpickled."""
    fingerprint(read_header(path))
    title = clean_text(title, 120) or "LoRA"
    target = workspace.adapter_path(new_id(title))
    aside = target.with_suffix(".part")
    with storage.saving(title, aside):
        shutil.copyfile(path, aside)
    about = {"title": title, "source": source, "trigger_words": list(trigger_words)}
    write_atomically(target.with_suffix(".json"), json.dumps(about, indent=1).encode())
    storage.replace_file(aside, target)
    # Here, in a job of its own: no page and no endpoint reads a large file to hash it.
    hashes.sha256(target)
    return f"file:{target.stem}"
