"""Every test gets a home of its own, one thread and no network."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

try:
    import resource
except ImportError:  # Windows
    resource = None

import huggingface_hub.constants
import pytest

from studio.core import imports, platform
from studio.core.workspace import Home
from tests.fake_hub import FakeHub

# Otherwise every child compiles the studio's modules anew, for up to half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

TOGETHER = ("browser", "families")
"""Folders whose tests share what is dear to make: one studio and browser, one tiny member of every family."""


@pytest.hookimpl(tryfirst=True)  # Before pytest-xdist, which reads the groups in its own hook.
def pytest_collection_modifyitems(items):
    """Tests run in two processes (`-n 0` is none); those of a file, and of such a folder, stay together and in their order."""
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in TOGETHER else item.path.stem))


def pytest_sessionstart(session):
    """The import of all tests, and of what they import, is over when they are collected."""
    imports.pause_garbage_collection()


def pytest_collection_finish(session):
    """Without groups everything still passes, in nearly twice the time: each process makes what a file or folder shares."""
    imports.resume_garbage_collection()
    if getattr(session.config.option, "loadgroup", False):
        assert all("@" in item.nodeid for item in session.items), "pytest-xdist groups no tests; see the version of pytest in tests/requirements.txt"


@pytest.fixture(autouse=True)
def no_limit_is_left():
    """Such a limit ends the process, without a word, in a later test."""
    if resource is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_CPU)
    yield
    assert resource.getrlimit(resource.RLIMIT_CPU) == before


@pytest.fixture(autouse=True)
def keep_priority(monkeypatch):
    """A training in the process of the tests lowers the priority for good: the tests after it waited for those of the other processes."""
    monkeypatch.setattr(platform, "be_nice", lambda: None)
    monkeypatch.setattr(platform, "prefer_as_oom_victim", lambda: None)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def workspace(home):
    return home.workspace("local")


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A Hub on this computer, and a client cache of the test's own; this process and its children find it by HF_ENDPOINT."""
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # These two are read once, at the import of huggingface_hub.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", os.devnull)
        yield hub
