"""`python -m studio.training RUN_FOLDER`: train a run, like `python -m studio.training.loop`."""

import sys

from studio.training.run_log import configure_process

if __name__ == "__main__":
    configure_process()
    # Imported here: it imports torch, whose warnings belong after the versions.
    from studio.training.loop import main

    sys.exit(main(sys.argv[1:]))
