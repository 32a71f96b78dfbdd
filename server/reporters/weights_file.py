"""``weights.safetensors``: who listened to whom in the rounds that fused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from fedfuse.types import RoundRecord
from server.reporters.folder import RunFolder


class WeightsFile:
    """The weights of every round, collected on disk so that memory does not grow with rounds.

    Where all K clients were fused in every round the file holds ``weights`` F32 [R, K, K] and
    ``rounds`` I64 [R]. Where only some were, it holds what they need and no more: ``weights`` F32
    is every round's [k, k], one behind the other, ``counts`` I64 [R] each round's k, and
    ``clients`` I64 who they were, one round behind the other.

    Args:
        folder: The run folder.
        num_clients: K.
    """

    def __init__(self, folder: RunFolder, num_clients: int) -> None:
        self._folder = folder
        self._num_clients = num_clients
        self._rounds: list[int] = []
        self._clients: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self._spool = folder.path / ".weights.f32"
        self._spool.unlink(missing_ok=True)  # of a run that was broken off
        self._file: BinaryIO = self._spool.open("wb")

    def add(self, record: RoundRecord) -> None:
        """Keep the weights of a round that has some."""
        assert record.weights is not None
        everybody = torch.arange(self._num_clients)
        ids = everybody if record.weight_clients is None else record.weight_clients
        self._rounds.append(record.round)
        self._clients.append(ids.numpy().astype("<i8"))
        weights = record.weights.detach().to("cpu").float().numpy()
        self._file.write(np.ascontiguousarray(weights, dtype="<f4").tobytes())
        self._file.flush()

    def finish(self) -> None:
        """Put the safetensors header before the collected weights, and the rest behind them."""
        self._file.close()
        size, counts = self._spool.stat().st_size, [len(ids) for ids in self._clients]
        whole = all(count == self._num_clients for count in counts)
        rest = {"rounds": np.asarray(self._rounds, dtype="<i8")}
        if not whole:
            rest["clients"] = np.concatenate(self._clients)
            rest["counts"] = np.asarray(counts, dtype="<i8")
        shape = [len(counts), *2 * [self._num_clients]] if whole else [size // 4]
        header = {"weights": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
        for name, array in rest.items():
            end = size + array.nbytes
            header[name] = {"dtype": "I64", "shape": [len(array)], "data_offsets": [size, end]}
            size = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with self._folder.replacing("weights.safetensors") as path, path.open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            _copy(self._spool, out)
            for array in rest.values():
                out.write(array.tobytes())
        self._spool.unlink()


def _copy(source: Path, out: BinaryIO) -> None:
    with source.open("rb") as file:
        while chunk := file.read(1 << 20):
            out.write(chunk)
