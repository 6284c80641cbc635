"""Facts of the open dataset, edited in place: name, subject, and whether a real person is shown and agreed."""

import gradio as gr

from studio.core.errors import StudioError
from studio.ui.components.html import notice
from studio.ui.studio import QUIET, show_errors
from studio.ui.tabs.dataset_editor import CONSENT, Editor, consent_box, noun_box, open_dataset
from studio.ui.tabs.dataset_new import choices


def wire_about(editor: Editor, picker: gr.Dropdown) -> None:
    studio = editor.studio

    @show_errors
    def rename(title: str, base: str | None, dataset_id: str | None, request: gr.Request) -> tuple:
        """An empty name leaves the old one. A field that is only left stores nothing, because another page may have stored a newer name."""
        workspace = studio.workspace(request)
        dataset = open_dataset(workspace, dataset_id)
        if dataset is None or title == base:
            return gr.skip(), gr.skip()
        dataset.update_facts(title=title)
        return gr.update(choices=choices(workspace), value=dataset_id), title

    def set_subject(subject: str, dataset_id: str | None, request: gr.Request) -> tuple:
        dataset = open_dataset(studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.skip(), gr.skip()
        try:
            dataset.update_facts(subject=subject)
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad")
        return noun_box(dataset), ""

    @show_errors
    def set_person(person: bool, consent: bool, dataset_id: str | None, request: gr.Request) -> dict:
        dataset = open_dataset(studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.skip()
        dataset.set_person(person, CONSENT if consent and person else "")
        return consent_box(dataset)

    # Gradio 6.31 sends no input event for a text that is set at once, such as one filled in by the browser.
    for changed in (editor.title.input, editor.title.blur):
        changed(rename, [editor.title, editor.title_base, editor.chosen], [picker, editor.title_base], **QUIET)
    editor.subject.input(set_subject, [editor.subject, editor.chosen], [editor.noun, editor.message], **QUIET)
    for box in (editor.person, editor.consent):
        box.input(set_person, [editor.person, editor.consent, editor.chosen], editor.consent, **QUIET)
