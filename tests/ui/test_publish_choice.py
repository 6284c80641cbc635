"""Publish preselects the run that the user looks at, never an unfinished one."""

from types import SimpleNamespace

import gradio as gr

from studio.core.access import Access
from studio.ui import app as ui
from studio.ui.tabs.publish import choose
from studio.ui.tabs.publish_form import NOT_OPENED
from tests.trained import finished_run


def unfinished(workspace, title: str):
    run = finished_run(workspace, title=title, steps=(100,))
    run.append({"kind": "started", "step": 100, "total": 200})
    run.append({"kind": "stopped", "step": 120})
    return run


def test_the_run_that_is_looked_at_is_preselected_if_it_is_finished(workspace):
    older, newer = finished_run(workspace, title="Older"), finished_run(workspace, title="Newer")
    assert choose(workspace, {}, older.id, None).ref == f"run:{older.id}"
    assert choose(workspace, {}, None, None).ref == f"run:{newer.id}", "without an open run the Train tab shows the newest"
    assert choose(workspace, {}, older.id, f"run:{newer.id}").ref == f"run:{older.id}"
    assert choose(workspace, {}, older.id, f"run:{newer.id}", picked=True).ref == f"run:{newer.id}"


def test_an_unfinished_run_is_listed_and_never_preselected(workspace):
    done, stopped = finished_run(workspace, title="Done"), unfinished(workspace, "Half <done>")
    choice = choose(workspace, {}, stopped.id, None)
    assert choice.ref == f"run:{done.id}" and "“Half <done>” is not finished (stopped" in choice.reason and "newest finished run" in choice.reason
    assert ("Half <done> (not finished)", f"run:{stopped.id}") in choice.runs
    assert choose(workspace, {}, stopped.id, f"run:{stopped.id}", picked=True).ref == f"run:{stopped.id}", "the user may choose it"
    stopped.append({"kind": "finished", "step": 200})
    assert choose(workspace, {}, stopped.id, f"run:{done.id}").ref == f"run:{stopped.id}", "it has just finished"


def test_without_a_finished_run_none_is_preselected(workspace):
    assert choose(workspace, {}, None, None).ref is None
    stopped = unfinished(workspace, "Half")
    choice = choose(workspace, {}, stopped.id, None)
    assert choice.ref is None and "Choose a run in the list" in choice.reason


def test_a_change_of_jobs_chooses_nothing_before_the_page_is_opened(home, workspace):
    """Its answer may come after that of the opening, which has chosen the run of the address."""
    run = finished_run(workspace, title="Older")
    app, _ = ui.build_app(home, Access())
    list_again = next(event.fn for event in app.fns.values() if event.fn and event.fn.__name__ == "list_again")
    visitor, form = SimpleNamespace(headers={}), (None, False, "", None, None)
    assert set(map(str, list_again(visitor, NOT_OPENED, *form))) == {str(gr.skip())}
    assert set(map(str, list_again(visitor, None, None, True, "", None, None))) == {str(gr.skip())}, "picked by the address, not shown yet"
    assert f"run:{run.id}" in str(list_again(visitor, None, *form))
