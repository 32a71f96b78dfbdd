"""Clients judge each other: everybody's predictions come down, and scores of them go up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Task, Tools
from fedfuse.errors import require
from fedfuse.exchange.cuber import Cuber, Said
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.peers import PEERS
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, KnowledgeBank, Teachers

SCORES = "exchange/scores"
"""Where a client remembers what it makes of each source, [K]; NaN of those it has not met."""

Judge = Callable[[Said, Tensor, Said, Tensor], Tensor]
"""What a client's model says of its private samples [n], their labels [n], what it says of the
public samples [m], and what S sources say of these [S, m, C], to what each is worth to it [S]."""


@dataclass(frozen=True, slots=True)
class ScoredSources(Predictions):
    """Exchange predictions, and let each receiver score its sources by what only it can see.

    The server sends, with the teacher, what all clients said of the round's samples (K times the
    download). A receiver judges them at once, with the model that said its own part, and sends its
    scores with its next predictions; private data stay where they are. A scorer of the server
    reads them (``scorer=uploaded``).

    Args:
        score: Who judges.
    """

    score: Judge = field(default_factory=Cuber)

    def __post_init__(self) -> None:
        Predictions.__post_init__(self)
        require(callable(self.score), "ScoredSources", "score", self.score, "a judge of sources")

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return predictions and teachers, with scores on the way up and peers on the way down.

        Raises:
            ModelError: If there is a model whose features cannot be told.
        """
        for model in one_of_each(models, data).values():
            feature_size(model, data.num_classes)
        self.check_shown(models, data)
        up = self.also_up | {"scores"}
        return Kind(KnowledgeBank, Teachers, {"S": data.num_clients}, up=up, down=PEERS)

    def answers(
        self, held: Sequence[Student], tools: Tools, round_: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits [k, m, C] on the round's public samples, and the scores [k, K]."""
        logits, fields = Predictions.answers(self, held, tools, round_)
        unknown = torch.full((tools.inputs.data.num_clients,), torch.nan)
        known = [tools.memory(student.client_id).get(SCORES, unknown) for student in held]
        return logits, {**fields, "scores": torch.stack(known)}

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Judge those who came down with the teacher; return the steps of distillation."""
        if received.peers is not None and received.heard is not None:
            self._judge(held, tools, round_, received.peers, received.heard)
        return Predictions.learn(self, held, tools, round_, received)

    def _judge(
        self, held: Sequence[Student], tools: Tools, round_: int, peers: Tensor, heard: Tensor
    ) -> None:
        """Remember what each client makes of the sources that it heard."""
        num_classes, batch_size = tools.inputs.data.num_classes, tools.plan.eval_batch_size
        asked = [replace(s, model=WithFeatures(s.model, num_classes)) for s in held]
        rows = tools.inputs.private([tools.inputs.data.clients[s.client_id] for s in held])
        own = tools.trainer.predict_each(asked, [inputs for inputs, _ in rows], batch_size)
        public = tools.trainer.predict(asked, tools.inputs.public(round_), batch_size)
        each = zip(held, own, rows, public, peers, heard, strict=True)
        for student, private, (_, labels), said, sources, there in each:
            sides = (Said(side[:, :num_classes], side[:, num_classes:]) for side in (private, said))
            found = self.score(next(sides), labels, next(sides), sources[there])
            memory = tools.memory(student.client_id)
            known = memory.get(SCORES, torch.full((len(there),), torch.nan)).clone()
            known[there] = found.cpu().float()
            memory[SCORES] = known
