"""The benchmark of the start finds on the page what it waits for."""

from studio.benchmark import start
from studio.core.access import Access
from studio.ui import app as ui


def test_the_button_that_the_benchmark_waits_for_is_on_the_page(home):
    app, _ = ui.build_app(home, Access())
    assert [block.value for block in app.blocks.values() if getattr(block, "elem_id", None) == start.GENERATE_ID] == ["Generate"]
