"""Facts of the open dataset, edited in place: name, subject, and whether a real person is shown and agreed."""

import gradio as gr

from studio.core.errors import StudioError
from studio.ui.components.html import notice
from studio.ui.studio import QUIET
from studio.ui.tabs.dataset_editor import CONSENT, Editor, consent_box, noun_box, open_dataset
from studio.ui.tabs.dataset_new import choices


def wire_about(editor: Editor, picker: gr.Dropdown) -> None:
    studio = editor.studio

    def rename(title: str, dataset_id: str | None, request: gr.Request) -> dict:
        """An empty name leaves the old one."""
        workspace = studio.workspace(request)
        if dataset := open_dataset(workspace, dataset_id):
            dataset.update_facts(title=title)
        return gr.update(choices=choices(workspace), value=dataset_id)

    def set_subject(subject: str, dataset_id: str | None, request: gr.Request) -> tuple:
        dataset = open_dataset(studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.skip(), gr.skip()
        try:
            dataset.update_facts(subject=subject)
        except StudioError as error:
            return gr.skip(), notice(str(error), "bad")
        return noun_box(dataset), ""

    def set_person(person: bool, consent: bool, dataset_id: str | None, request: gr.Request) -> dict:
        dataset = open_dataset(studio.workspace(request), dataset_id)
        if dataset is None:
            return gr.skip()
        dataset.set_person(person, CONSENT if consent and person else "")
        return consent_box(dataset)

    # Gradio 6.31 sends no input event for a text that is set at once, such as one filled in by the browser.
    for changed in (editor.title.input, editor.title.blur):
        changed(rename, [editor.title, editor.chosen], picker, **QUIET)
    editor.subject.input(set_subject, [editor.subject, editor.chosen], [editor.noun, editor.message], **QUIET)
    for box in (editor.person, editor.consent):
        box.input(set_person, [editor.person, editor.consent, editor.chosen], editor.consent, **QUIET)
