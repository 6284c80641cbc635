"""API endpoints for datasets, their images and captions."""

from collections.abc import Callable
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from studio.core.errors import StudioError
from studio.datasets.dataset import SUBJECTS, Dataset
from studio.jobs import worker
from studio.ui import files
from studio.ui.studio import Studio


def endpoints(studio: Studio) -> tuple[Callable, ...]:
    def datasets(request: gr.Request) -> list[dict]:
        """All datasets: id, title, subject, trigger word, number of images."""
        found = Dataset.all(studio.workspace(request))
        return [{"id": d.id, "title": d.title, "subject": d.subject, "trigger_word": d.trigger_word, "pictures": len(d.images)} for d in found]

    def use_samples(name: str, request: gr.Request) -> dict:
        """Create a dataset with the sample images: style or character."""
        dataset = Dataset.from_samples(studio.workspace(request), name)
        return {"id": dataset.id, "title": dataset.title, "pictures": len(dataset.images)}

    def new_dataset(title: str, request: gr.Request, subject: str = SUBJECTS[0], trigger_word: str = "", consent: str = "") -> dict:
        """Create an empty dataset of a style, character or object. If it shows a real person, `consent` states how they agreed; it is shown on
        the model card. Add images with /add_pictures."""
        dataset = Dataset.create(studio.workspace(request), title, subject, bool(consent.strip()), consent, trigger_word)
        return {"id": dataset.id, "title": dataset.title, "pictures": 0}

    async def add_pictures(dataset: str, pictures: list[gr.FileData], request: gr.Request) -> dict:
        """Add images, .txt captions of the same name, masks (name-mask.png: only its light areas are trained), or a .zip of these: files as
        gradio_client's handle_file sends them. Returns the numbers of images, captions and masks added, the refused files with reasons, and
        notes."""
        opened = Dataset.open(studio.workspace(request), dataset)
        payload = {"dataset": opened.id, "files": [uploaded(file) for file in pictures]}
        return await studio.result(studio.jobs.start(studio.jobs.submit(studio.owner(request), "import", payload)))

    def pictures(dataset: str, request: gr.Request) -> list[dict]:
        """All images of a dataset: id, name, caption, source of the caption (hand, file, sample, a captioner or empty), size, address, and the
        address of the mask or an empty string."""
        opened = Dataset.open(studio.workspace(request), dataset)
        return [
            {
                "id": image.id,
                "name": image.name,
                "caption": image.caption,
                "caption_source": image.caption_source,
                "width": image.width,
                "height": image.height,
                "address": "/" + files.url("picture", opened.id, image.id),
                "mask": "/" + files.url("mask", opened.id, image.mask.stem) if image.mask else "",
            }
            for image in opened.images
        ]

    def edit_caption(dataset: str, picture: str, caption: str, request: gr.Request) -> dict:
        """Set the caption of an image by hand: no captioner overwrites it afterwards. An empty caption may be filled again."""
        opened = Dataset.open(studio.workspace(request), dataset)
        return {"changed": opened.set_caption(picture, caption)}

    async def caption(dataset: str, request: gr.Request, captioner: str = "builtin", only_empty: bool = True, class_noun: str = "") -> dict:
        """Write captions. Captions edited by hand are kept, and the trigger word replaces `class_noun`. Returns counts after the job ends."""
        opened = Dataset.open(studio.workspace(request), dataset)
        payload = {"dataset": opened.id, "captioner": captioner, "only_empty": only_empty, "class_noun": class_noun}
        job = studio.jobs.submit(studio.owner(request), "caption", payload)
        worker.ensure(studio.home)
        return await studio.result(job)

    return datasets, new_dataset, use_samples, pictures, add_pictures, edit_caption, caption


def uploaded(file: gr.FileData | dict) -> dict[str, str]:
    """A file uploaded with this request, in the form of an import job.

    The type annotation is only for the API's page: Gradio 6.31 passes the value on as it was sent, and moves and checks only values with
    `meta: gradio.FileData`. Without this check a caller could name any path of this computer.
    """
    path = Path(str(file.get("path", ""))).resolve() if isinstance(file, dict) else Path()
    if not (path.is_file() and path.is_relative_to(Path(get_upload_folder()).resolve())):
        raise StudioError(f"{repr(file)[:60]} is not an uploaded file; wrap each file in gradio_client's handle_file.")
    return {"path": str(path), "name": path.name}
