"""Fixtures of the page's tests."""

import pytest

from studio.core.access import Access
from studio.core.workspace import Home
from studio.ui import app as ui


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page without a worker: no image is generated, everything else works."""
    home = Home(tmp_path_factory.mktemp("page"))
    app, studio = ui.build_app(home, Access())
    arguments = ui.launch_arguments(studio) | {"prevent_thread_lock": True, "quiet": True}
    server, url, _ = app.launch(**arguments)
    yield server, url, studio
    app.close()
