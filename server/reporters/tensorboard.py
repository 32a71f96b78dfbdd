"""Show a run in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedfuse.types import RoundRecord
from server.reporters.extras import require_extra
from server.reporters.protocol import RunInfo
from server.reporters.scalars import scalars

MOST_CLIENTS = 500
"""With more clients than this no picture of the weights is drawn: it would be megabytes a round."""


class TensorBoard:
    """A reporter that writes event files, a folder per arm, so that TensorBoard overlays them.

    Args:
        log_dir: Where to, in a folder of the run's name; the run folder's ``tensorboard`` if None.

    Raises:
        ConfigError: If the ``tensorboard`` package is not installed.
    """

    def __init__(self, log_dir: str | None = None) -> None:
        require_extra("tensorboard", ["tensorboard"])
        self._log_dir = log_dir
        self._writers: dict[str, Any] = {}
        self._method = ""

    def start(self, info: RunInfo) -> None:
        """Open the event files and write what will run."""
        from torch.utils.tensorboard import SummaryWriter

        self._method = info.arms[-1]
        folder = self._folder(info)
        self._writers = {arm: SummaryWriter(str(folder / arm)) for arm in info.arms}
        about = "\n".join(f"    {key}: {value}" for key, value in info.flat_config().items())
        headline = f"{info.method} · {info.dataset} · {info.partitioner} · {info.model}"
        self._writers[self._method].add_text("configuration", f"{headline}\n\n{about}", 0)

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Write nothing."""

    def client_done(self, client_id: int) -> None:
        """Write nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Write the round's numbers, and a picture of its weights."""
        writer = self._writers[arm]
        for name, value in scalars(record).items():
            writer.add_scalar(name, value, record.round)
        if record.weights is not None and len(record.weights) <= MOST_CLIENTS:
            picture = record.weights.detach().to("cpu").float()[None]
            scale = max(1, 256 // picture.shape[-1])
            picture = picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            writer.add_image("fusion/weights", picture, record.round)
        writer.flush()

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _folder(self, info: RunInfo) -> Path:
        run = info.folder or Path(info.method)
        return run / "tensorboard" if self._log_dir is None else Path(self._log_dir) / run.name
