"""The studio with a server on which each change of a trigger word takes a second: `python -m tests.browser.slow_app`."""

import runpy
import time

from studio.datasets.dataset import Dataset

SECONDS = 1.0
set_trigger_word = Dataset.set_trigger_word


def set_slowly(dataset: Dataset, word: str, base: str | None = None) -> None:
    time.sleep(SECONDS)
    set_trigger_word(dataset, word, base)


if __name__ == "__main__":
    Dataset.set_trigger_word = set_slowly
    runpy.run_path("app.py", run_name="__main__")
