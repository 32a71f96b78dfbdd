"""``python -m experiments.map``."""

import sys

from experiments.map.command import main

if __name__ == "__main__":
    sys.exit(main())
