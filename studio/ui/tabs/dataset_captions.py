"""Trigger word and captions of the open dataset: set, suggest, write with a captioner."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from studio.core.errors import StudioError
from studio.core.wording import counted
from studio.core.workspace import Workspace
from studio.datasets import trigger_words
from studio.datasets.captioners import CAPTIONERS
from studio.datasets.dataset import Dataset, TriggerConflict
from studio.jobs import worker
from studio.jobs.queue import Job
from studio.ui.components import caption_grid
from studio.ui.components.following import Followed, Following
from studio.ui.components.html import notice
from studio.ui.components.templates import render
from studio.ui.studio import QUIET, show_errors
from studio.ui.tabs.dataset_editor import Editor, explain_word, header, named, next_step, open_dataset, progress


def wire_captions(editor: Editor) -> None:
    _wire_grid(editor)
    _wire_trigger_word(editor)
    _wire_trigger_in_captions(editor)
    _wire_captioner(editor)


def _wire_grid(editor: Editor) -> None:
    def recount(dataset_id: str | None, request: gr.Request) -> tuple:
        dataset = open_dataset(editor.studio.workspace(request), dataset_id)
        return (header(dataset), *next_step(dataset)) if dataset else (gr.skip(), gr.skip(), gr.skip())

    editor.grid.changed_elsewhere(editor.refresh, editor.chosen, editor.refreshed, **QUIET)
    editor.grid.saved_caption(recount, editor.chosen, [editor.summary, editor.train, editor.write], **QUIET)


def _wire_trigger_word(editor: Editor) -> None:
    def set_word(word: str, base: str | None, dataset_id: str | None, request: gr.Request) -> tuple:
        dataset = open_dataset(editor.studio.workspace(request), dataset_id)
        if dataset is None or word == base:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            dataset.set_trigger_word(word, base)
        except TriggerConflict as conflict:
            return gr.skip(), render("dataset", "word_conflict", word, conflict.word), gr.skip()
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad"), gr.skip()
        return header(dataset), explain_word(word), dataset.trigger_word

    def keep_mine(word: str, dataset_id: str | None, request: gr.Request) -> tuple:
        return word, *set_word(word, None, dataset_id, request)

    def use_theirs(dataset_id: str | None, request: gr.Request) -> tuple:
        dataset = open_dataset(editor.studio.workspace(request), dataset_id)
        return keep_mine(dataset.trigger_word if dataset else "", dataset_id, request)

    inputs, outputs = [editor.word, editor.word_base, editor.chosen], [editor.summary, editor.word_note, editor.word_base]
    # Gradio 6.31 sends no input event for a text that is set at once, such as a draft that comes back.
    for changed in (editor.word.input, editor.word.blur):
        changed(set_word, inputs, outputs, **QUIET)
    editor.suggest.click(trigger_words.suggest_trigger, None, editor.word, **QUIET).then(set_word, inputs, outputs, **QUIET)
    editor.word_note.keep_mine(keep_mine, [editor.word, editor.chosen], [editor.word, *outputs], **QUIET)
    editor.word_note.use_theirs(use_theirs, editor.chosen, [editor.word, *outputs], **QUIET)


def _wire_trigger_in_captions(editor: Editor) -> None:
    studio = editor.studio

    @show_errors
    def put_trigger(noun: str | None, dataset_id: str, request: gr.Request) -> tuple:
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        changed, batch = dataset.put_trigger_into_captions((noun or "").strip())
        message = f"“{dataset.trigger_word}” was put into {counted(changed, 'caption')}."
        shown = render("caption_grid", "changed", message, dataset.id, batch) if changed else ""
        return shown, caption_grid.grid(dataset), header(dataset)

    @show_errors
    def undo_captions(open_id: str | None, request: gr.Request, event: gr.EventData) -> tuple:
        """In the dataset of the message, even if another one is open by now."""
        dataset = Dataset.open(studio.workspace(request), str(event.dataset))
        restored, edited = dataset.undo_captions(str(event.batch))
        kept = f" {counted(edited, 'caption')} that you edited since {'was' if edited == 1 else 'were'} kept." if edited else ""
        shown = (caption_grid.grid(dataset), header(dataset)) if dataset.id == open_id else (gr.skip(), gr.skip())
        return notice(f"{counted(restored, 'caption')} restored.{kept}"), *shown

    outputs = [editor.message, editor.grid, editor.summary]
    editor.summary.put_trigger(put_trigger, [editor.noun, editor.chosen], outputs, **QUIET)
    editor.message.undo_captions(undo_captions, editor.chosen, outputs, **QUIET)


def _wire_captioner(editor: Editor) -> None:
    studio = editor.studio

    def show(_: object, jobs: Sequence[Job], request: gr.Request, open_id: str) -> tuple:
        """While captions are written, the page's own poll shows them."""
        ended = any(job.payload["dataset"] == open_id and not job.unfinished for job in jobs)
        shown = show_captioned(jobs, studio.workspace(request), open_id)
        return shown, *editor.refresh_if(ended, open_id, request)

    following = Following(studio, show, [editor.message, *editor.refreshed], [editor.chosen])

    @show_errors
    def write_captions(captioner: str, only_empty: bool, noun: str | None, dataset_id: str, followed: Followed | None, request: gr.Request) -> tuple:
        owner = studio.owner(request)
        dataset = Dataset.open(studio.workspace(request), dataset_id)
        payload = {"dataset": dataset_id, "captioner": captioner, "only_empty": only_empty, "class_noun": (noun or "").strip()}
        job = studio.jobs.submit(owner, "caption", payload, key=f"caption-{dataset_id}")
        worker.ensure(studio.home)
        return *following.begin([job], before=followed), "", progress(studio, owner, dataset)

    @show_errors
    def stop(request: gr.Request, event: gr.EventData) -> None:
        studio.jobs.cancel(studio.jobs.get(int(event.job), studio.owner(request)).id)

    def write_with(noun: str | None, dataset_id: str, followed: Followed | None, request: gr.Request, event: gr.EventData) -> tuple:
        """Write the captions that the first captioner left out, in the dataset of the message; the class noun is that of the open one."""
        noun = noun if event.dataset == dataset_id else ""
        return str(event.captioner), *write_captions(str(event.captioner), True, noun, str(event.dataset), followed, request)

    outputs = [*following.state, editor.message, editor.progress]
    inputs = [editor.captioner, editor.only_empty, editor.noun, editor.chosen, following.followed]
    editor.write.click(write_captions, inputs, outputs, **QUIET)
    editor.message.use_captioner(write_with, [editor.noun, editor.chosen, following.followed], [editor.captioner, *outputs], **QUIET)
    editor.progress.stop(stop, None, None, **QUIET)


def show_captioned(jobs: Sequence[Job], workspace: Workspace, open_id: str | None) -> str:
    """What became of each job that has ended."""
    shown = []
    for job in jobs:
        dataset_id, message = job.payload["dataset"], ""
        if job.state == "done":
            message = caption_result(job.result, job.payload["captioner"], dataset_id)
        elif job.state == "cancelled":
            message = notice("Stopped. The captions written so far are kept.")
        elif not job.unfinished:
            message = notice(job.error, "bad")
        shown.append(named(message, workspace, dataset_id, open_id))
    return "".join(shown)


def caption_result(counts: dict[str, int], captioner: str, dataset_id: str) -> str:
    """How many captions were written, kept and failed; other captioners where this one does not know the images."""
    text = f"{counted(counts['captioned'], 'caption')} written, {counts['kept']} unchanged."
    if counts["failed"]:
        text += f" {counted(counts['failed'], 'image')} could not be read."
    if shortened := counts.get("shortened"):
        text += f" {counted(shortened, 'caption')} repeated {'itself' if shortened == 1 else 'themselves'}; {_was(shortened)} shortened."
    if counts["captioned"]:
        text += " Check them: a captioner can be wrong."
    unknown = counts.get("unknown")
    if not unknown:
        # One that knows a small world only cannot be sure of what it wrote.
        return notice(text, "" if CAPTIONERS[captioner].least_likelihood else "good")
    about = f"The {CAPTIONERS[captioner].title} captioner does not know {counted(unknown, 'image')}: {_was(unknown)} left without a caption."
    others = [
        Proposal(each.name, each.title, f"{each.size} to download, once; {each.seconds} seconds per image without a GPU")
        for each in CAPTIONERS.values()
        if each.size and each.seconds and each.name != captioner
    ]
    return render("caption_grid", "unknown", about, text if counts["captioned"] else "", dataset_id, others)


@dataclass(frozen=True)
class Proposal:
    """Another captioner, and what it costs."""

    name: str
    title: str
    cost: str


def _was(count: int) -> str:
    return "it was" if count == 1 else "they were"
