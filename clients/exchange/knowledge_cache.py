"""FedCache: logits of private samples go up, hashes and labels once; means of others come down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clients.exchange.private_answers import private_answers
from clients.exchange.protocol import Task, Tools
from clients.exchange.taught_samples import TaughtSamples
from fedfuse.exchange.group_knowledge import SampleTeachers
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.knowledge_cache import CachedSamples, CacheServer, word_counts
from fedfuse.models.projection import projection
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData
from fedfuse.validation import require_count

KNOWN = "exchange/known"
"""Where a client remembers that the server has its labels and hashes: it has answered."""


@dataclass(frozen=True, slots=True)
class KnowledgeCache(TaughtSamples):
    """Exchange knowledge of private samples through what is like them (Wu et al. 2024).

    A sample's hash is its input, as models take it, times a fixed random orthogonal map that all
    clients have; inputs that are frozen features of a pre-trained network make it the paper's. Of
    a text it is how many of its words fall into each of H bins.

    Args:
        neighbours: R, the relatives of a sample.
        width: H, the numbers of a hash.
    """

    alpha: float = 1.5
    neighbours: int = 16
    width: int = 64
    needs_sample_counts: ClassVar[bool] = True
    sends_of_samples: ClassVar[str] = "labels, logits and hashes of all private samples"

    def __post_init__(self) -> None:
        TaughtSamples.__post_init__(self)
        require_count("KnowledgeCache", "neighbours", self.neighbours)
        require_count("KnowledgeCache", "width", self.width)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:  # noqa: ARG002
        """Return what is said of each client's samples, and their teachers."""
        counts = [len(client.train) for client in data.clients]
        sizes: dict[str, int | tuple[int, ...]] = {
            "N": tuple(counts),
            "L": tuple(count * data.num_classes for count in counts),
            "F": tuple(count * self.width for count in counts),
        }
        return Kind(CachedSamples, SampleTeachers, sizes)

    def combine(self, models: ModelPlan, data: FederatedData) -> CacheServer:  # noqa: ARG002
        """Return the cache."""
        return CacheServer(data.num_classes, self.width, self.neighbours)

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> CachedSamples:  # noqa: ARG002
        """Return the logits of private samples; what these are like until the server has it."""
        answers, labels, hashes = [], [], []
        for student, (logits, inputs, own) in zip(held, private_answers(held, tools), strict=True):
            end = 0 if KNOWN in tools.memory(student.client_id) else len(own)
            answers.append(logits.cpu())
            labels.append(own[:end])
            hashes.append(self.hashed(inputs[:end], tools))
        return CachedSamples(
            client_ids=torch.tensor([student.client_id for student in held]),
            logit_sizes=torch.tensor([logits.numel() for logits in answers]),
            sizes=torch.tensor([len(part) for part in labels]),
            hash_sizes=torch.tensor([part.numel() for part in hashes]),
            logits=torch.cat([logits.flatten() for logits in answers]),
            labels=torch.cat(labels).cpu().int(),
            hashes=torch.cat([part.flatten() for part in hashes]),
        )

    def hashed(self, inputs: Tensor, tools: Tools) -> Tensor:
        """Return the hashes of inputs [N, ...], [N, H]."""
        if tools.inputs.data.is_text:
            return word_counts(inputs.cpu(), self.width)
        flat = inputs.flatten(1).float()
        entropy = tools.streams.entropy("exchange", "hash")
        return (flat @ projection(flat.shape[1], self.width, entropy, flat.device)).cpu()

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: SampleTeachers
    ) -> list[Task]:
        """Keep what came back; return as many private steps as distillation would take."""
        for student in held:
            tools.memory(student.client_id)[KNOWN] = torch.tensor(True)
        return TaughtSamples.learn(self, held, tools, round_, received)
