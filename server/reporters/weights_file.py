"""``weights.safetensors``: who listened to whom in the rounds that fused."""

from __future__ import annotations

import json
import shutil
import struct
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from fedfuse.types import RoundRecord
from server.reporters.folder import RunFolder


class WeightsFile:
    """The weights of every round, collected on disk so that memory does not grow with rounds.

    Where all K clients were fused in every round the file holds ``weights`` F32 [R, K, K] and
    ``rounds`` I64 [R]. Where only some were, it holds what they need and no more: ``weights`` F32
    is every round's [k, k], one behind the other, ``counts`` I64 [R] each round's k, and
    ``clients`` I64 who they were, one round behind the other. Weights that differ by class are
    their mean over the classes; ``class_shares`` F32 [R, K, C] (or [sum of k, C]) then says how
    much each source counted for each class, the mean over the receivers.

    Args:
        folder: The run folder.
        num_clients: K.
    """

    def __init__(self, folder: RunFolder, num_clients: int) -> None:
        self._folder = folder
        self._num_clients = num_clients
        self._rounds: list[int] = []
        self._clients: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        self._weights = _Spool(folder, "weights")
        self._shares = _Spool(folder, "class_shares")
        self._num_classes = 0

    def add(self, record: RoundRecord) -> None:
        """Keep the weights of a round that has some."""
        assert record.weights is not None
        everybody = torch.arange(self._num_clients)
        ids = everybody if record.weight_clients is None else record.weight_clients
        self._rounds.append(record.round)
        self._clients.append(ids.numpy().astype("<i8"))
        self._weights.add(record.weights)
        if record.class_shares is not None:
            self._num_classes = record.class_shares.shape[1]
            self._shares.add(record.class_shares)

    def finish(self) -> None:
        """Put the safetensors header before the collected weights, and the rest behind them."""
        counts = [len(ids) for ids in self._clients]
        whole = all(count == self._num_clients for count in counts)
        rest = {"rounds": np.asarray(self._rounds, dtype="<i8")}
        if not whole:
            rest["clients"] = np.concatenate(self._clients)
            rest["counts"] = np.asarray(counts, dtype="<i8")
        clients = [len(counts), self._num_clients] if whole else [sum(counts)]
        shapes = {self._weights: [*clients, clients[-1]] if whole else [self._weights.size // 4]}
        if self._shares.size == 4 * sum(counts) * self._num_classes > 0:  # in every round
            shapes[self._shares] = [*clients, self._num_classes]
        header, size = {}, 0
        for spool, shape in shapes.items():
            offsets = [size, size + spool.size]
            header[spool.name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            size = offsets[1]
        for name, array in rest.items():
            offsets = [size, size + array.nbytes]
            header[name] = {"dtype": "I64", "shape": [len(array)], "data_offsets": offsets}
            size = offsets[1]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with self._folder.replacing("weights.safetensors") as path, path.open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for spool in shapes:
                spool.pour(out)
            for array in rest.values():
                out.write(array.tobytes())
        for spool in (self._weights, self._shares):
            spool.close()


class _Spool:
    """Tensors of all rounds, one behind the other, in a file of their own."""

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.name = name
        self.size = 0
        """Bytes."""
        self._path = folder.path / f".{name}.f32"
        self._path.unlink(missing_ok=True)  # of a run that was broken off
        self._file: BinaryIO | None = None

    def add(self, tensor: Tensor) -> None:
        """Append a round's numbers."""
        self._file = self._file or self._path.open("wb")
        numbers = tensor.detach().to("cpu").float().numpy()
        self.size += self._file.write(np.ascontiguousarray(numbers, dtype="<f4").tobytes())
        self._file.flush()

    def pour(self, out: BinaryIO) -> None:
        """Append all of it to another file."""
        with self._path.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()
            self._path.unlink()
