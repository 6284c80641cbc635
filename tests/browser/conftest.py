"""A real Chromium in front of a real `python app.py` with a home, a port and a Hub of its own. Screenshots are kept in artifacts/."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from studio.core.workspace import Home
from tests.fake_hub import FakeHub

ROOT = Path(__file__).parents[2]
ARTIFACTS = Path(__file__).parent / "artifacts"
DOCS = ROOT / "docs"
FOR_DOCS = os.environ.get("LORA_STUDIO_DOCS") == "1"
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
]
SECONDS_TO_START = 60
PATIENCE_MS = 60_000
"""Long, because the machine may be busy; a passing test never waits that long."""

WATCH = """
window.refused = [];
document.addEventListener('securitypolicyviolation', event => window.refused.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""

USUAL_HOME = """() => {
  for (const code of document.querySelectorAll('code'))
    code.textContent = code.textContent.replace(/^\\/.*(?=\\/owners\\/)/, '~/.local/share/lora-studio');
}"""
"""Shows the folder of most users instead of that of the test, in the images of the docs."""

DROP = """([place, files]) => {
  const carrier = new DataTransfer();
  for (const [name, data] of files)
    carrier.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type: 'image/png'}));
  const under = document.querySelector(place);
  for (const kind of ['dragover', 'drop']) under.dispatchEvent(new DragEvent(kind, {dataTransfer: carrier, bubbles: true, cancelable: true}));
}"""


def drop(page, place: str, images: dict[str, bytes]) -> None:
    """Drop PNG files on the element that the selector `place` finds."""
    page.evaluate(DROP, [place, [[name, base64.b64encode(data).decode()] for name, data in images.items()]])


def violations(page) -> list[str]:
    """What the page's Content-Security-Policy refused since it was loaded; for a page with the script WATCH."""
    page.wait_for_timeout(500)
    return page.evaluate("window.refused")


def wait_until(page, script: str, arg=None) -> None:
    """Wait until the JavaScript `script` is true. Playwright's own wait_for_function evaluates a string inside the page, which its policy refuses."""
    ends = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < ends, f"never true: {script}"
        page.wait_for_timeout(50)


def missing(message: str) -> None:
    """Fail without a browser in CI; skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class App:
    """One running studio."""

    def __init__(self, home: Path, environment: dict[str, str], program: Sequence[str] = ("app.py",)):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.home = Home(home)
        self.log = open(home / "app.log", "ab")  # noqa: SIM115 - open for as long as the app runs
        here = {"LORA_STUDIO_HOME": str(home), "LORA_STUDIO_PORT": str(self.port), "LORA_STUDIO_BROWSER": "0", "OMP_NUM_THREADS": "1"}
        self.environment, self.program = environment | here, program
        self.start()

    def start(self) -> None:
        """Start the process, also again after `kill`, on the same port."""
        self.process = subprocess.Popen([sys.executable, *self.program], cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log)
        self.wait_until_ready()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def wait_until_ready(self) -> None:
        ends = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.url, timeout=2).close()
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"app.py did not answer on {self.url}: {(self.home.root / 'app.log').read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.log.close()

    @property
    def output(self) -> str:
        return (self.home.root / "app.log").read_text()


def clean_environment() -> dict[str, str]:
    """Environment without the developer's own settings (a token, a mode)."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("LORA_STUDIO_", "HF_", "GRADIO_"))}
    return mine | {"GRADIO_ANALYTICS_ENABLED": "False"}


@pytest.fixture(scope="package")
def hub():
    with FakeHub() as hub:
        yield hub


def started(folder: Path, hub: FakeHub, program: Sequence[str] = ("app.py",)) -> Iterator[App]:
    """A studio with its home in this folder, stopped in the end. `program`: arguments of Python that start it."""
    running = App(folder, clean_environment() | hub.environment(cache=folder / "hf"), program)
    yield running
    running.stop()


@pytest.fixture(scope="package")
def app(tmp_path_factory, hub):
    yield from started(tmp_path_factory.mktemp("studio"), hub)


@pytest.fixture(scope="module")
def new_app(tmp_path_factory, hub):
    """A new studio for one module, without the datasets and runs of other tests."""
    yield from started(tmp_path_factory.mktemp("new-studio"), hub)


@pytest.fixture(scope="package")
def browser():
    """For these tests only: Playwright runs an event loop in this thread, so no other test could start one."""
    playwright = pytest.importorskip("playwright.sync_api") if not os.environ.get("CI") else __import__("playwright.sync_api").sync_api
    if not CHROMIUM.exists():
        missing(f"There is no Chromium at {CHROMIUM}; install it (apt-get install chromium) or name another in CHROMIUM.")
    playwright.expect.set_options(timeout=PATIENCE_MS)
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, app):
    """open_page(width, height, theme) -> a loaded page; JavaScript errors on it and violations of its policy fail the test. `options` are those of
    the browser context."""
    contexts, pages, errors = [], [], []

    def open_one(width: int = 1440, height: int = 900, theme: str = "light", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_init_script(WATCH)
        pages.append(page)
        page.goto(f"{app.url}?__theme={theme}")
        page.get_by_role("button", name="Generate", exact=True).wait_for()
        return page

    yield open_one
    refused = [each for page in pages for each in violations(page)]
    for context in contexts:
        context.close()
    assert errors == [] and refused == []


@pytest.fixture
def keep():
    """keep(page, name): a screenshot of the whole page (or of what is in view) as a test artefact; with LORA_STUDIO_DOCS=1 those with `docs` go to
    docs/."""
    ARTIFACTS.mkdir(exist_ok=True)

    def save(page, name: str, docs: str = "", whole: bool = True) -> None:
        page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=whole)
        if docs and FOR_DOCS:
            DOCS.mkdir(exist_ok=True)
            page.evaluate(USUAL_HOME)
            page.screenshot(path=DOCS / f"{docs}.png")

    return save
