"""``python -m experiments.advise``."""

import sys

from experiments.advise.command import main

if __name__ == "__main__":
    sys.exit(main())
