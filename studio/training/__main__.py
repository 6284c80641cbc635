"""`python -m studio.training RUN_FOLDER`: train a run, like `python -m studio.training.loop`."""

import sys

from studio.training.loop import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
