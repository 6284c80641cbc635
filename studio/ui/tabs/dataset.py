"""Pictures and their captions: what a LoRA learns from."""

from collections.abc import Callable

import gradio as gr

from studio.core.errors import StudioError
from studio.core.workspace import Workspace
from studio.datasets import captioners, trigger_words
from studio.datasets.dataset import Dataset
from studio.jobs import worker
from studio.ui import files
from studio.ui.api.datasets import uploaded
from studio.ui.components import caption_grid, job_bar, mask_view
from studio.ui.components.html import counted, html, notice, notices, panel, small
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, Studio, show_errors
from studio.ui.tabs.dataset_new import build_new

TITLE = "Pictures & captions"

NOUN_HELP = "Captions say “a dog in the snow”; with “dog” here they say “{word} in the snow”, and the LoRA learns which dog. May stay empty."
TRIGGER_HELP = "A rare word that will call the LoRA in a prompt, such as ohwx, sks or TOK: letters that mean nothing yet."
CAPTIONER_HELP = (
    "Who looks and writes. For pictures of your own take BLIP or Florence-2, fetched once from the Hub; "
    "the built-in one knows only pictures like the samples."
)


def open_dataset(workspace: Workspace, dataset_id: str | None) -> Dataset | None:
    dataset = Dataset(workspace.dataset_path(dataset_id)) if dataset_id else None
    return dataset if dataset and dataset.path.exists() else None


def build(studio: Studio, rooms: gr.Tabs, chosen: gr.State, beat: gr.State):
    """`chosen` holds the id of the dataset in work, on all tabs; `beat` changes when a picture or caption job moves."""
    html(render("dataset", "head"))
    new = build_new(studio, chosen)
    with gr.Column(visible=False, elem_id="dataset-work") as work:
        with gr.Row(elem_classes="toolbar"):
            add = gr.UploadButton(
                "Add pictures",
                file_count="multiple",
                variant="secondary",
                size="md",
                min_width=130,
                scale=0,
                elem_id="add-pictures",
                elem_classes="file-drop",
            )
            summary = html("")
            undo = gr.Button("Undo", size="md", visible=False, scale=0, min_width=90)
            export = html("", elem_id="export", min_width=100)
            on = gr.Button("Train with these", variant="primary", scale=0, min_width=190)
        with gr.Row(elem_classes="pane captioning") as captioning_pane:
            with gr.Column(scale=3, min_width=240):
                word = gr.Textbox(label="Trigger word", info=TRIGGER_HELP, placeholder="ohwx", max_length=60, elem_id="trigger-word")
                meaning = html("", elem_id="word-meaning")
                suggest = gr.Button("Suggest one", size="sm", scale=0, min_width=110)
            with gr.Column(scale=4, min_width=240):
                who = gr.Dropdown(
                    [(f"{c.title}: {c.about}", c.name) for c in captioners.CAPTIONERS.values()],
                    value="builtin",
                    label="Captioner",
                    info=CAPTIONER_HELP,
                )
                noun = gr.Textbox(label="What is it, in one word?", placeholder="dog", max_length=40, visible=False, elem_id="class-noun")
                with gr.Row():
                    empty_only = gr.Checkbox(True, label="Only pictures without a caption", min_width=200)
                    write = gr.Button("Write captions", variant="secondary", size="md", min_width=140, elem_id="write-captions")
        said = html("", elem_id="dataset-said")
        progress = panel("", ("stop",), elem_id="dataset-progress")
        cards = panel("", ("leave_out", *mask_view.EVENTS), server_functions=_writers(studio), elem_id="captions")
    new.removed.render()

    moving = [work, summary, cards, progress, export, undo, add, on, captioning_pane]
    shown = [*moving, word, meaning, noun]

    @show_errors
    def show(dataset_id: str | None, request: gr.Request):
        workspace = studio.workspace(request)
        dataset = open_dataset(workspace, dataset_id)
        if dataset is None:
            return gr.update(visible=False), "", "", "", "", *[gr.skip()] * 4, "", "", gr.skip()
        progress = _progress(studio, studio.owner(request), dataset)
        some = bool(dataset.images)
        link = render("dataset", "export", files.url("dataset", dataset.id)) if some else ""
        steps = gr.update(variant="secondary" if some else "primary"), gr.update(visible=some), gr.update(visible=some)
        word = dataset.trigger_word
        asked = gr.update(visible=dataset.subject != "style", info=NOUN_HELP.format(word=word or "sks"))
        seen = gr.update(visible=True), _header(dataset), caption_grid.grid(dataset), progress, link, _way_back(dataset), *steps
        return *seen, word, _meaning(word), asked

    def refresh(dataset_id: str | None, request: gr.Request):
        """The same, but the trigger word someone may be typing stays."""
        return show(dataset_id, request)[: len(moving)]

    def move(dataset_id: str | None, busy: bool, request: gr.Request):
        """Once a second while any job moves: nothing, unless pictures or captions of this very dataset come in, or just did."""
        dataset = open_dataset(studio.workspace(request), dataset_id)
        now_busy = bool(dataset and _progress(studio, studio.owner(request), dataset))
        return (*(refresh(dataset_id, request) if busy or now_busy else [gr.skip()] * len(moving)), now_busy)

    busy = gr.State(False)
    chosen.change(show, chosen, shown, **QUIET)
    beat.change(move, [chosen, busy], [*moving, busy], **QUIET)

    @show_errors
    async def bring(brought, dataset_id, request: gr.Request):
        """Import runs as a job with a decoder of its own; refused files come back with their reasons."""
        listed = [{"path": str(f), "name": str(f).replace("\\", "/").rpartition("/")[2]} for f in brought or []]
        return await take_in(listed, dataset_id, request)

    async def take_in(listed: list[dict], dataset_id: str, request: gr.Request) -> str:
        job = studio.jobs.submit(studio.owner(request), "import", {"dataset": dataset_id, "files": listed})
        done = await studio.wait_for(studio.jobs.start(job))
        if done.state != "done":
            return notice(done.error or "Adding pictures was stopped; those already in are kept.", "bad")
        notes = notices(done.result["notes"])
        came_in = done.result["added"] + done.result["captions"] + done.result["masks"]
        return caption_grid.refusals(done.result["refused"], came_in) + notes

    add.upload(bring, [add, chosen], said, **QUIET).then(refresh, chosen, moving, **QUIET)

    def set_word(word, dataset_id, request: gr.Request):
        dataset = open_dataset(studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.skip(), gr.skip()
        try:
            dataset.set_trigger_word(word)
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad")
        return _header(dataset), _meaning(word)

    word.input(set_word, [word, chosen], [summary, meaning], **QUIET)
    suggest.click(trigger_words.suggest_trigger, None, word, **QUIET).then(set_word, [word, chosen], [summary, meaning], **QUIET)

    @show_errors
    async def write_captions(who, empty_only, noun, dataset_id, request: gr.Request):
        owner = studio.owner(request)
        asked = {"dataset": dataset_id, "captioner": who, "only_empty": empty_only, "class_noun": (noun or "").strip()}
        job = studio.jobs.submit(owner, "caption", asked, key=f"caption-{dataset_id}")
        worker.ensure(studio.home)
        async for now in studio.watch(job, every=0.1):
            dataset = open_dataset(studio.workspace(request), dataset_id)
            if now.state == "done":
                counts = now.result
                read = " Read them over: a captioner can be wrong." if counts["captioned"] else ""
                words = f"{counted(counts['captioned'], 'caption')} written, {counts['kept']} kept as they were."
                words += f" {counted(counts['failed'], 'picture')} could not be read." if counts["failed"] else ""
                words += read
                yield notice(words, "good"), "", caption_grid.grid(dataset), _header(dataset)
            elif now.state in ("failed", "interrupted"):
                yield notice(now.error, "bad"), "", caption_grid.grid(dataset), _header(dataset)
            elif now.state == "cancelled":
                yield notice("Stopped. The captions written so far are kept."), "", caption_grid.grid(dataset), _header(dataset)
            else:
                yield "", _progress(studio, owner, dataset), gr.skip(), gr.skip()

    write.click(write_captions, [who, empty_only, noun, chosen], [said, progress, cards, summary], **QUIET)

    @show_errors
    def stop(request: gr.Request, event: gr.EventData):
        job = studio.jobs.get(int(event.job))
        if job.owner == studio.owner(request):
            studio.jobs.cancel(job.id)

    progress.stop(stop, None, None, **QUIET)

    @show_errors
    def leave_out(dataset_id, request: gr.Request, event: gr.EventData):
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.remove([event.id])
        return caption_grid.grid(dataset), _header(dataset), _way_back(dataset)

    @show_errors
    def put_back(dataset_id, request: gr.Request):
        """The last one that was taken out; again for the one before."""
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.restore(picture.id for picture in dataset.removed[:1])
        return caption_grid.grid(dataset), _header(dataset), _way_back(dataset)

    cards.leave_out(leave_out, chosen, [cards, summary, undo], **QUIET)
    undo.click(put_back, chosen, [cards, summary, undo], **QUIET)

    @show_errors
    async def give_mask(dataset_id, request: gr.Request, event: gr.EventData):
        return await take_in([{**uploaded({"path": event.path}), "mask_of": str(event.id)}], dataset_id, request)

    @show_errors
    def take_mask_off(dataset_id, request: gr.Request, event: gr.EventData):
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.remove_mask(str(event.id))
        return caption_grid.grid(dataset), _header(dataset)

    @show_errors
    def put_mask_back(dataset_id, request: gr.Request, event: gr.EventData):
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        dataset.undo_mask(str(event.id))
        return caption_grid.grid(dataset), _header(dataset)

    cards.give_mask(give_mask, chosen, said, **QUIET).then(refresh, chosen, moving, **QUIET)
    cards.take_mask_off(take_mask_off, chosen, [cards, summary], **QUIET)
    cards.put_mask_back(put_mask_back, chosen, [cards, summary], **QUIET)

    on.click(lambda: gr.Tabs(selected="train"), None, rooms, **QUIET)
    return new


def _meaning(word: str) -> str:
    return small(trigger_words.explain_trigger(word))


def _header(dataset: Dataset) -> str:
    plain = ""
    if any(p.looks_like_photo for p in dataset.images):
        plain = notice(
            "These look like photographs. The built-in base draws simple shapes only; for photographs choose another base on the Train tab.", "warn"
        )
    return caption_grid.summary(dataset) + plain


def _way_back(dataset: Dataset) -> dict:
    """The button that puts the picture back which was taken out last, for as long as there is one."""
    gone = dataset.removed
    more = f" ({len(gone)} are out)" if len(gone) > 1 else ""
    return gr.update(visible=bool(gone), value=f"Put {gone[0].name} back{more}" if gone else "Undo")


def _progress(studio: Studio, owner: str, dataset: Dataset) -> str:
    """The running import or caption job of this dataset: a bar, words, and Stop."""
    for job in studio.jobs.list(owner, kinds=("import", "caption"), states=("waiting", "running")):
        if job.payload.get("dataset") == dataset.id:
            return job_bar.working(job)
    return ""


def _writers(studio: Studio) -> list[Callable]:
    """What the page calls while someone works on one caption."""

    def save_caption(data: dict, request: gr.Request) -> dict:
        try:
            dataset = Dataset.open(studio.workspace(request), str(data["dataset"]))
            dataset.set_caption(str(data["id"]), str(data["text"]), "hand", typing=True)
        except StudioError as error:
            return {"error": str(error)}
        return {"saved": True}

    def undo_caption(data: dict, request: gr.Request) -> dict:
        try:
            return {"text": Dataset.open(studio.workspace(request), str(data["dataset"])).undo_caption(str(data["id"]))}
        except StudioError as error:
            return {"error": str(error)}

    return [save_caption, undo_caption]
