"""FedCache's server: what was last said of every private sample, and which samples are like it.

FedCache (Wu et al. 2024, arXiv 2308.07816), as read in its code: every sample has a hash, which the
server gets once with its label; its relatives are the R samples of the same label whose hashes are
nearest by their cosine, whoever has them; the mean of their logits is its teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.group_knowledge import LABELS, SampleTeachers, check_labels
from fedfuse.payload import LOGITS, NOT_NEGATIVE, ArrayField, Payload
from fedfuse.shapes import Float, Int
from fedfuse.types import Fusion

NOBODY = -1
"""In the place of a relative that there is not."""


@dataclass(frozen=True, slots=True)
class CachedSamples(Payload):
    """What clients say of their N_k private samples, and once what these are like.

    Args:
        client_ids: int64 [K], ascending.
        logit_sizes: int64 [K], N_k C.
        sizes: int64 [K], N_k, or 0 from a client whose labels the server has.
        hash_sizes: int64 [K], N_k H, or 0 likewise.
        logits: float32, sample by sample, all clients' one after the other.
        labels: int32, likewise.
        hashes: float32, likewise.
    """

    logit_sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    hash_sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    logits: Annotated[Tensor, ArrayField("L", bounds=LOGITS, lengths="logit_sizes")]
    labels: Annotated[
        Tensor, ArrayField("N", torch.int32, LABELS, lengths="sizes", may_be_empty=True)
    ]
    hashes: Annotated[
        Tensor, ArrayField("F", bounds=LOGITS, lengths="hash_sizes", may_be_empty=True)
    ]


def relatives(
    hashes: Float[Tensor, "N H"], labels: Int[Tensor, " N"], count: int, block: int = 1024
) -> Int[Tensor, "N R"]:
    """Return the ``count`` other samples of each sample's label that are nearest by cosine.

    Args:
        hashes: Of all samples.
        labels: Of all samples.
        count: R.
        block: Rows of cosines that are held at a time.

    Returns:
        Their rows, nearest first; :data:`NOBODY` behind them where there are fewer.

    >>> hashes = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 0.0]])
    >>> relatives(hashes, torch.tensor([0, 0, 0, 1]), 2).tolist()
    [[1, 2], [0, 2], [1, 0], [-1, -1]]
    """
    units = normalize(hashes, dim=1)
    found = torch.full((len(labels), count), NOBODY)
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero().flatten()
        most = min(count, len(rows) - 1)
        for part in torch.split(rows, block):
            alike = units[part] @ units[rows].T
            alike[part.unsqueeze(1) == rows] = -torch.inf
            nearest = alike.sort(dim=1, descending=True, stable=True).indices[:, :most]
            found[part, :most] = rows[nearest]
    return found


def word_counts(words: Int[Tensor, "N W"], width: int) -> Float[Tensor, "N H"]:
    """Return how often words fall into each of ``width`` bins, by their numbers; 0 is no word.

    >>> word_counts(torch.tensor([[1, 3, 4, 0], [3, 0, 0, 0]]), 2)
    tensor([[1., 2.],
            [0., 1.]])
    """
    counts = torch.zeros(len(words), width)
    return counts.scatter_add_(1, words.long() % width, (words > 0).float())


def mean_of(logits: Float[Tensor, "N C"], related: Int[Tensor, "n R"]) -> Float[Tensor, "n C"]:
    """Return the mean logits of each sample's relatives; NaN where there are none.

    >>> mean_of(torch.tensor([[2.0], [4.0]]), torch.tensor([[0, 1], [1, -1], [-1, -1]])).tolist()
    [[3.0], [4.0], [nan]]
    """
    known = related != NOBODY
    values = torch.where(known.unsqueeze(2), logits[related.clamp_min(0)].double(), 0)
    return (values.sum(dim=1) / known.sum(dim=1, keepdim=True)).to(logits.dtype)


class CacheServer:
    """Keep every sample's hash, label and last logits; teach with the relatives' mean.

    Who rests is heard by what it said last.

    Args:
        num_classes: C.
        width: H, numbers of a hash.
        count: R.
    """

    def __init__(self, num_classes: int, width: int, count: int) -> None:
        self.num_classes, self.width, self.count = num_classes, width, count
        self._labels: dict[int, Tensor] = {}
        self._hashes: dict[int, Tensor] = {}
        self._logits: dict[int, Tensor] = {}
        self._related: Tensor | None = None

    def __call__(self, knowledge: CachedSamples, round_: int) -> Fusion:  # noqa: ARG002
        """Return the teachers of the samples of those who sent."""
        self._take(knowledge)
        clients = sorted(self._logits)
        sizes = [len(self._labels[i]) for i in clients]
        if self._related is None:
            hashes = torch.cat([self._hashes[i] for i in clients])
            labels = torch.cat([self._labels[i] for i in clients])
            self._related = relatives(hashes, labels, self.count)
        parts = dict(zip(clients, torch.split(self._related, sizes), strict=True))
        logits = torch.cat([self._logits[i] for i in clients])
        owner = torch.repeat_interleave(torch.tensor(clients), torch.tensor(sizes))
        ids = knowledge.client_ids.tolist()
        taught = [mean_of(logits, parts[i]).flatten() for i in ids]
        down = SampleTeachers(knowledge.client_ids, knowledge.logit_sizes, torch.cat(taught))
        others = [(owner[parts[i].clamp_min(0)] != i)[parts[i] != NOBODY] for i in ids]
        found = torch.cat(others).float()
        return Fusion(down, None, {"related_others": float(found.mean()) if len(found) else 0.0})

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        return {
            f"{name}/{client_id}": value.clone()
            for name, kept in self._kept().items()
            for client_id, value in kept.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        for kept in self._kept().values():
            kept.clear()
        for key, value in state.items():
            name, client_id = key.split("/")
            self._kept()[name][int(client_id)] = value.clone()
        self._related = None

    def _kept(self) -> dict[str, dict[int, Tensor]]:
        return {"labels": self._labels, "hashes": self._hashes, "logits": self._logits}

    def check_bank(self, knowledge: CachedSamples) -> None:
        """Refuse labels of classes that there are not, and samples that were never described.

        Raises:
            KnowledgeError: Naming the clients.
        """
        check_labels(knowledge, self.num_classes)
        told = zip(knowledge.client_ids.tolist(), self._told(knowledge), strict=True)
        if strange := [i for i, new in told if not new and i not in self._labels]:
            error = KnowledgeError(
                "A client sent logits of private samples that the server knows nothing of",
                got=f"no labels and hashes of the clients {strange[:10]}",
                allowed="both, once",
            )
            error.client_ids = tuple(strange)
            raise error

    def _told(self, knowledge: CachedSamples) -> list[bool]:
        """Return for each client whether it describes its samples."""
        counts = knowledge.logit_sizes // self.num_classes
        told = (knowledge.sizes == counts) & (knowledge.hash_sizes == counts * self.width)
        found: list[bool] = told.tolist()
        return found

    def _take(self, knowledge: CachedSamples) -> None:
        """Note what came."""
        ids, told = knowledge.client_ids.tolist(), self._told(knowledge)
        rows = (knowledge.split(name) for name in ("logits", "labels", "hashes"))
        for client_id, new, logits, labels, hashes in zip(ids, told, *rows, strict=True):
            self._logits[client_id] = logits.reshape(-1, self.num_classes).clone()
            if new:
                self._labels[client_id] = labels.long()
                self._hashes[client_id] = hashes.reshape(-1, self.width).clone()
                self._related = None
