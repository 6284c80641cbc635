"""`python -m studio.training RUN_FOLDER`: train a run, like `python -m studio.training.loop`."""

import sys

from studio.training import run_log
from studio.training.loop import main

if __name__ == "__main__":
    run_log.configure_process()
    sys.exit(main(sys.argv[1:]))
