"""What people bring into the studio, as jobs of the direct lane: pictures and captions, LoRA files, LoRAs from the Hub."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from studio.adapters.format import fingerprint
from studio.adapters.header import read_header
from studio.core.errors import StudioError
from studio.core.workspace import Home, Workspace, new_id, write_atomically
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import clean_text, decode_files
from studio.jobs.progress import Report
from studio.jobs.queue import Job

log = logging.getLogger(__name__)
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What code that reads a stranger's bytes may stumble over."""


def import_pictures(home: Home, job: Job, report: Report, secret: bytes | None) -> dict:
    """{"dataset", "files": [{"path", "name"}]} -> {"added", "captions", "masks", "refused": [{"name", "reason"}], "notes"}.

    A file with "mask_of", the id of a picture, is that picture's mask whatever it is called.
    """
    dataset = Dataset.open(home.workspace(job.owner), job.payload["dataset"])
    with dataset.incoming() as folder:
        decoded = decode_files(job.payload["files"], folder, report, dataset.images)
        report(len(job.payload["files"]), len(job.payload["files"]), "Adding the pictures")
        return dataset.add(decoded, folder)


def import_adapters(home: Home, job: Job, report: Report, secret: bytes | None) -> dict:
    """{"files": [{"path", "name"}]} -> {"adapters": [refs], "refused": [{"name", "reason"}]}."""
    workspace = home.workspace(job.owner)
    files, refs, refused = job.payload["files"], [], []
    for index, file in enumerate(files):
        name = clean_text(file["name"], 120)
        report(index, len(files), f"Checking {name}")
        try:
            refs.append(keep_adapter(workspace, Path(file["path"]), Path(name).stem, {"file": name}))
        except StudioError as error:
            refused.append({"name": name, "reason": str(error)})
        except OSError as error:
            refused.append({"name": name, "reason": f"{name} could not be read or kept ({error.strerror or error}); bring it again."})
        except DAMAGE as error:
            # A file that the checks did not foresee: a fault of ours, but no reason to lose the others.
            log.exception("reading a header failed")
            refused.append({"name": name, "reason": f"{name} is damaged in a way the studio does not know ({type(error).__name__}); get it again."})
    return {"adapters": refs, "refused": refused}


def download_adapter(home: Home, job: Job, report: Report, secret: bytes | None) -> dict:
    """{"repo_id", "revision", "filename"} -> {"adapters": [ref], "refused": [], "revision"}; `secret` is the token for a private or gated repo."""
    # MaskTarget and not above: the Hub's client takes a second to import, and pictures do not need it.
    from studio.hub import client

    wanted = job.payload
    token = client.read_token(secret.decode()) if secret else None
    found = client.download_adapter(
        wanted["repo_id"],
        wanted.get("revision"),
        wanted.get("filename"),
        token,
        lambda done, total: report(done, total, f"Fetching {wanted['repo_id']}"),
    )
    source = {"hub": found.repo_id, "revision": found.revision, "file": found.filename, "licence": found.licence, "base_model": found.base_model}
    words = [clean_text(found.trigger_word, 60)] if found.trigger_word else []
    ref = keep_adapter(home.workspace(job.owner), found.path, found.title, source, words)
    return {"adapters": [ref], "refused": [], "revision": found.revision}


def keep_adapter(workspace: Workspace, path: Path, title: str, source: dict, trigger_words: Sequence[str] = ()) -> str:
    """Copy a LoRA file into the workspace once its header was checked; returns its ref. No weights are read and nothing is unpickled."""
    fingerprint(read_header(path))
    title = clean_text(title, 120) or "LoRA"
    target = workspace.adapter_path(new_id(title))
    aside = target.with_suffix(".part")
    shutil.copyfile(path, aside)
    about = {"title": title, "source": source, "trigger_words": list(trigger_words)}
    write_atomically(target.with_suffix(".json"), json.dumps(about, indent=1).encode())
    aside.rename(target)
    return f"file:{target.stem}"
