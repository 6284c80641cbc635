"""A planned LoRA saved on this computer instead of uploaded: a folder, or a zip with reproducible bytes."""

import shutil
import zipfile
from pathlib import Path

from studio.core import storage
from studio.core.errors import StudioError
from studio.core.workspace import Home, new_id, slug
from studio.jobs.progress import ProgressReporter
from studio.jobs.queue import Job
from studio.publishing.plan import Plan, Request, plan


def save_folder(release: Plan, folder: Path) -> Path:
    """Write the files that would be uploaded into a folder; needs neither a network nor a login."""
    if folder.exists() and any(folder.iterdir()):
        raise StudioError(f"The folder {folder.name!r} is not empty; choose a new or empty folder.")
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    with storage.saving(folder.name, aside):
        for file in release.files:
            target = aside / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as opened:
                file.copy_to(opened)
        if folder.exists():
            folder.rmdir()
        storage.replace_file(aside, folder)
    return folder


def save_zip(release: Plan, path: Path) -> Path:
    """Zip with reproducible bytes: sorted, without dates, and stored, since deflate differs between builds of zlib."""
    top = release.repo_id.split("/")[-1] or slug(release.facts.title)
    aside = path.with_name(f".{path.name}.part")
    with storage.saving(path.name, aside):
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(release.files, key=lambda file: file.path):
                entry = zipfile.ZipInfo(f"{top}/{file.path}", date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                entry.file_size = file.size
                with archive.open(entry, "w") as opened:
                    file.copy_to(opened)
        storage.replace_file(aside, path)
    return path


def save_job(home: Home, job: Job, report: ProgressReporter, secret: bytes | None) -> dict:
    """{"request", "how": "zip" or "folder"} -> {"path"} in the owner's folder of published files."""
    workspace = home.workspace(job.owner)
    report(0, 1, "Packing the LoRA, its card and its images")
    release = plan(workspace, Request.model_validate(job.payload["request"]))
    release.check()
    name = release.repo_id or release.facts.title
    if job.payload["how"] == "zip":
        return {"path": str(save_zip(release, workspace.published / f"{slug(name)}.zip"))}
    return {"path": str(save_folder(release, workspace.published / new_id(name)))}
