"""Open the studio: `python app.py`. Reads the environment, chooses mode and home folder, and starts the page; see docs/deploy.md."""

import os

from studio.core.access import Access, Mode
from studio.core.errors import StudioError
from studio.core.workspace import Home
from studio.jobs import worker
from studio.ui import app as ui


def main() -> None:
    home = Home()
    access = Access.from_environment(os.environ)
    app, studio = ui.build_app(home, access)
    browser = access.mode is Mode.local and os.environ.get("LORA_STUDIO_BROWSER", "1") == "1"
    app.launch(**ui.launch_arguments(studio, browser), quiet=True, prevent_thread_lock=True)
    # Not sooner: its start would take a core from the page's.
    worker.start_supervisor(home)
    print(f"LoRA Studio runs at {app.local_url}  (Ctrl+C ends it; a training goes on by itself)", flush=True)  # noqa: T201 - the one line a person needs
    app.block_thread()


if __name__ == "__main__":
    try:
        main()
    except StudioError as error:
        raise SystemExit(f"The studio cannot start: {error}") from None
