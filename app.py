"""Start the studio: `python app.py`. Reads the environment, chooses mode and home folder, and serves the page; see docs/deploy.md."""

import logging
import os

from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.core.logging import configure, log_packages
from studio.core.workspace import Home
from studio.jobs import worker
from studio.ui import app as ui

log = logging.getLogger(__name__)


def main() -> None:
    home = Home()
    configure("web", file=home.logs / "web.log")
    access = Access.from_environment(os.environ)
    app, studio = ui.build_app(home, access)
    browser = access.mode is Mode.local and os.environ.get("LORA_STUDIO_BROWSER", "1") == "1"
    app.launch(**ui.launch_arguments(studio, browser), quiet=True, prevent_thread_lock=True)
    # After the page: starting the worker would slow down the first page load.
    worker.start_supervisor(home)
    print(f"LoRA Studio runs at {app.local_url}  (Ctrl+C stops it; running training continues)", flush=True)  # noqa: T201 - the one line for the user
    log.info("mode %s, port %s", access.mode, app.server_port)
    log_packages()
    app.block_thread()


if __name__ == "__main__":
    try:
        main()
    except StudioError as error:
        raise SystemExit(f"The studio cannot start: {error}") from None
