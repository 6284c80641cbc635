"""`python -m studio.training.loop RUN_FOLDER`: train a run to its end."""

import sys

from studio.training.loop import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
