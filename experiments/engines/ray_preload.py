"""What a worker of a Ray that was started here imports first, and from then on does."""

from experiments.terminal.garbage import collect_rarely

collect_rarely()
