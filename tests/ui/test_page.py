"""The page's events: none that carries something typed or picked is dropped while its handler runs."""

import asyncio
import time

import gradio as gr
import pytest

from studio.core.access import Access
from studio.core.workspace import Home
from studio.ui import app as ui
from studio.ui.components.html import TURN, panel
from studio.ui.page import CREATES, TRIGGER_MODES, Page, is_panel_event


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return ui.build_app(Home(tmp_path_factory.mktemp("home")), Access())[0]


def test_no_event_that_carries_something_typed_or_picked_can_be_lost(built):
    lossy = {}
    for each in built.config["dependencies"]:
        block_fn = built.fns[each["id"]]
        for block_id, event in each["targets"]:
            kind = "panel" if is_panel_event(built, block_id, event) else event
            if TRIGGER_MODES[kind] != "once" and event not in CREATES and each["trigger_mode"] not in ("always_last", "multiple"):
                lossy[f"{event} of {built.blocks[block_id]}"] = block_fn.fn
            if kind == "panel" and event not in CREATES and each["trigger_mode"] != "multiple":
                lossy[f"{event} of {built.blocks[block_id]} with the data of another row"] = block_fn.fn
    assert lossy == {}


def test_what_starts_or_creates_something_happens_once_on_a_double_click(built):
    modes = {block_fn.fn.__name__: block_fn.trigger_mode for block_fn in built.fns.values() if block_fn.fn}
    starts = ("start", "start_all", "retry", "extend", "copy_samples")
    assert {name: modes[name] for name in starts} == dict.fromkeys(starts, "once")


def slow_page() -> tuple[Page, list]:
    """A page with a panel and a field whose handlers are slow at first and faster later."""
    handled: list = []

    def handle(value: str) -> str:
        time.sleep(0.2 if value == "a" else 0)
        handled.append(value)
        return value

    def refuse(value: str) -> str:
        raise gr.Error("No such word.")

    with Page() as page:
        field, shown, summary = gr.Textbox(), gr.Textbox(), gr.Textbox(elem_classes=TURN)
        rows = panel("", ("pick", "weigh"))
        rows.pick(handle, field, shown, concurrency_limit=None)
        rows.weigh(lambda value: handle(value), field, shown, concurrency_limit=None)
        field.input(refuse, field, shown)
        gr.Button().click(handle, field, [summary], concurrency_limit=None)
        field.change(lambda value: handle(value), field, [summary], concurrency_limit=None)
    return page, handled


def call(page: Page, index: int, value: str, session: str, **more):
    return page.process_api(page.fns[index], [value], state=gr.state_holder.SessionState(page), session_hash=session, **more)


def test_events_of_a_panel_are_handled_in_the_order_they_were_sent_for_each_page_by_itself():
    page, handled = slow_page()

    async def calls():
        await asyncio.gather(call(page, 0, "a", "one"), call(page, 1, "b", "one"), call(page, 0, "other", "two"))

    asyncio.run(calls())
    assert handled == ["other", "a", "b"]
    assert not page.turns, "a turn that has ended is forgotten"
    assert page.fns[0].concurrency_id == page.fns[1].concurrency_id


def test_handlers_that_set_the_same_summary_answer_in_the_order_they_were_sent():
    page, handled = slow_page()

    async def calls():
        await asyncio.gather(call(page, 3, "a", "one"), call(page, 4, "b", "one"))

    asyncio.run(calls())
    assert handled == ["a", "b"]
    assert page.fns[3].concurrency_id == page.fns[4].concurrency_id


def test_a_list_drawn_before_a_tick_does_not_replace_the_one_with_it():
    ticked: list[str] = []
    drawn = []

    def draw(value: str) -> str:
        now = list(ticked)
        time.sleep(0.2)
        drawn.append(now)
        return value

    def tick(value: str) -> str:
        ticked.append(value)
        drawn.append(list(ticked))
        return value

    with Page() as page:
        field, other = gr.Textbox(), gr.HTML(elem_classes=TURN)
        rows = panel("", ("pick",))
        field.change(draw, field, rows)
        rows.pick(tick, field, rows)
        field.input(lambda value: (draw(value), value), field, [other, rows])

    async def calls():
        await asyncio.gather(call(page, 0, "x", "one"), call(page, 2, "x", "one"), call(page, 1, "a", "one"), call(page, 0, "x", "one"))

    asyncio.run(calls())
    assert drawn == [[], [], ["a"], ["a"]]
    assert {each.concurrency_id for each in page.fns.values()} == {TURN}


def test_a_refused_value_does_not_stop_the_newer_one_that_waits():
    """After an error Gradio's page forgets the event that waits."""
    page, _ = slow_page()
    logged = []
    page._queue.log_message = lambda event_id, message, *rest: logged.append((event_id, message))
    answer = asyncio.run(call(page, 2, "x", "one", event_id="e1"))
    assert answer["data"] == [gr.skip()] and logged == [("e1", "No such word.")]
    with pytest.raises(gr.Error):
        asyncio.run(call(page, 2, "x", "one"))
