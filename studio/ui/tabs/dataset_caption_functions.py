"""Functions that static/js/captions.js calls: save a caption, undo it, settle a conflict, ask whether the dataset changed."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import StudioError
from studio.datasets.captions import CaptionConflict, Edit
from studio.datasets.dataset import Dataset
from studio.datasets.importing.images import clean_text
from studio.ui.components.caption_grid import written_by
from studio.ui.studio import Studio

CAPTION_EVENTS = ("changed_elsewhere", "saved_caption")
"""Events of captions.js: the dataset's files are not those of the grid; a caption of the grid was saved."""


def caption_functions(studio: Studio) -> list[Callable]:
    """Answers are dictionaries: {"error"}, {"conflict"}, or the result with the dataset's version `before` and `after`."""

    def answer(data: dict, request: gr.Request, action: Callable[[Dataset, str], dict]) -> dict:
        try:
            dataset = Dataset.open(studio.workspace(request), str(data["dataset"]))
            before = dataset.version
            return {**action(dataset, str(data["id"])), "before": before, "after": dataset.version}
        except CaptionConflict as conflict:
            return {"conflict": {"text": conflict.text, "by": written_by(conflict.source)}}
        except StudioError as error:
            return {"error": studio.hidden_paths.hide(str(error))}

    def save_caption(data: dict, request: gr.Request) -> dict:
        edit = Edit(str(data["box"]), base=str(data["base"]))
        return answer(data, request, lambda dataset, image: {"saved": dataset.set_caption(image, str(data["text"]), "hand", edit)})

    def pass_over_caption(data: dict, request: gr.Request) -> dict:
        def pass_over(dataset: Dataset, image: str) -> dict:
            dataset.pass_over_caption(image, str(data["text"]))
            return {"text": dataset.caption(image)[0]}

        return answer(data, request, pass_over)

    def undo_caption(data: dict, request: gr.Request) -> dict:
        def undo(dataset: Dataset, image: str) -> dict:
            current, _ = dataset.caption(image)
            if current != clean_text(str(data["base"])):
                return {"text": current, "changed": True}
            return {"text": dataset.undo_caption(image)}

        return answer(data, request, undo)

    def dataset_version(data: dict, request: gr.Request) -> dict:
        """Empty for a dataset that is gone: the page keeps what it shows."""
        try:
            return {"version": Dataset.open(studio.workspace(request), str(data["dataset"])).version}
        except StudioError:
            return {"version": ""}

    return [save_caption, pass_over_caption, undo_caption, dataset_version]
