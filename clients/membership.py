"""Attack what a client shares: can anybody tell which samples its model was trained on?

The evaluation knows what no attacker does (who was a member), and uses the other clients' data of
the simulation as the attacker's own. It changes nothing that a run computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clients.exchange import Tools
from clients.state.state import OptimizerFactory
from fedfuse.privacy.membership import Attack, Shadow, features, judge, loss_scores
from fedfuse.privacy.stage import SECRET
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.train.learning_rate import Rates
from fedfuse.train.trainer import Student
from fedfuse.train.work import Work, schedule, steps_per_epoch
from fedfuse.types import ClientData, IntArray, KnowledgeBank

MOST_SAMPLES = 2000
"""Members, and others, that are tried for each client, at most."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Membership inference against each client's predictions, as it would share them.

    Members are the samples that a client trains on, others its own test samples: the same
    classes in the same proportions. Both pass the client's privacy mechanism.

    Args:
        round: After whose local training the clients are attacked.
        shadows: Shadow models per client; 0 leaves that attack out.
        fresh: Client to a model as anybody can have it before the first round, and how many steps
            that took.
        make_optimizer: Parameters to optimiser.
        rates: At which rates the client has taken its steps; None for the optimiser's.
    """

    round: int
    shadows: int
    fresh: Callable[[int], tuple[nn.Module, int]]
    make_optimizer: OptimizerFactory
    rates: Rates | None = None

    def __call__(
        self, students: Sequence[Student], tools: Tools, round_: int
    ) -> list[dict[str, float]]:
        """Return what the attacks on each client achieve; nothing in other rounds."""
        if round_ != self.round:
            return [{} for _ in students]
        return [self._attack(student, tools) for student in students]

    def _attack(self, student: Student, tools: Tools) -> dict[str, float]:
        data = tools.inputs.data
        client = data.clients[student.client_id]
        if not len(client.test):
            return {}
        streams = Streams(tools.streams.entropy("membership", client.client_id, self.round))
        members = tools.inputs.rows(data.train, _some(client.train, streams, "members"), client)
        others = tools.inputs.rows(data.own_pool, _some(client.test, streams, "others"), client)
        ask = _Ask(tools, client.client_id, streams, self.round)
        inside, outside = ask(student, "in", members), ask(student, "out", others)
        attack = judge(loss_scores(*inside), loss_scores(*outside))
        found = {**_named("loss", attack), "membership_members": float(attack.num_members)}
        found["membership_others"] = float(attack.num_others)
        shadow = self._shadow(student, tools, client, ask, streams)
        if shadow is not None:
            scores = (shadow(features(*inside)), shadow(features(*outside)))
            found |= _named("shadow", judge(*scores))
        return found

    def _shadow(
        self, student: Student, tools: Tools, client: ClientData, ask: _Ask, streams: Streams
    ) -> Shadow | None:
        """Return the attack that shadow models teach; None without models or data for them."""
        inputs = tools.inputs
        labels = np.asarray(inputs.data.train.labels)
        seen: list[list[Tensor]] = [[], []]
        for number in range(self.shadows):
            rng = streams.numpy("shadow", number)
            halves = _like(client, labels, rng)
            if halves is None:
                return None
            model, _ = self.fresh(client.client_id)
            optimizer = self.make_optimizer(model.parameters())
            twin = Student(client.client_id, student.architecture, model, optimizer)
            rows = [inputs.rows(inputs.data.train, half, client) for half in halves]
            tools.trainer.fit([twin], [self._training(rows[0], tools, streams, number)])
            for half, name in enumerate(("in", "out")):
                seen[half].append(features(*ask(twin, f"shadow {number} {name}", rows[half])))
        return Shadow.fit(torch.cat(seen[0]), torch.cat(seen[1])) if self.shadows else None

    def _training(
        self, rows: tuple[Tensor, Tensor], tools: Tools, streams: Streams, number: int
    ) -> Work:
        """Return as much local training as the client has had."""
        plan, (inputs, labels) = tools.plan, rows
        targets, loss = tools.work_plan.lesson(labels)
        each = plan.local_epochs * steps_per_epoch(len(labels), plan.batch_size)
        steps = self.round * (plan.local_steps or each)
        generator = streams.torch("shadow", number)
        work = Work(
            inputs=inputs,
            targets=targets,
            loss=loss,
            schedule=schedule(len(labels), plan.batch_size, steps, generator),
            entropy=streams.entropy("shadow", number, "layers"),
        )
        work = tools.inputs.augmented(work, streams, "shadow", number)
        return work if self.rates is None else self.rates.over(work, 0, self.round)


@dataclass(frozen=True, slots=True)
class _Ask:
    """Ask a model for what the client would send about some samples."""

    tools: Tools
    client_id: int
    streams: Streams
    round: int

    def __call__(
        self, student: Student, name: str, rows: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return logits [N, C], extracted and after the privacy mechanism, and labels [N]."""
        tools, (inputs, labels) = self.tools, rows
        logits = tools.trainer.predict([student], inputs, tools.plan.eval_batch_size).cpu()
        stages = list(tools.sharing.honest())
        if stages:
            counts = tools.inputs.class_counts([self.client_id])
            bank = KnowledgeBank(torch.tensor([self.client_id]), logits, counts.sum(dim=1))
            index = torch.arange(len(labels))
            # Noise of its own, from the client's secret, and nothing else to remember.
            streams = Streams(self.streams.entropy(name))
            kept = tools.memory(self.client_id)
            memory = {self.client_id: {SECRET: kept[SECRET]} if SECRET in kept else {}}
            context = SharingContext(tools.arm, self.round, index, counts, memory, streams)
            for stage in stages:
                bank = stage(bank, context)
            logits = bank.logits
        return logits[0], labels.cpu()


def _some(index: IntArray, streams: Streams, name: str) -> IntArray:
    """Return the samples, or as many of them as are tried."""
    if len(index) <= MOST_SAMPLES:
        return index
    chosen = streams.numpy(name).choice(len(index), MOST_SAMPLES, replace=False)
    return index[np.sort(chosen)]


def _like(
    client: ClientData, labels: IntArray, rng: np.random.Generator
) -> tuple[IntArray, IntArray] | None:
    """Return two halves of others' samples, each of the client's classes in its numbers.

    Of a class that the others hold too little of, each half gets half of what there is. None if
    there is nothing.
    """
    free = np.ones(len(labels), dtype=bool)
    free[client.train] = free[client.val] = False
    halves: tuple[list[IntArray], list[IntArray]] = ([], [])
    for label, wanted in enumerate(np.bincount(labels[client.train])):
        pool = rng.permutation(np.flatnonzero(free & (labels == label)))
        size = min(int(wanted), len(pool) // 2)
        halves[0].append(pool[:size])
        halves[1].append(pool[size : 2 * size])
    first, second = np.concatenate(halves[0]), np.concatenate(halves[1])
    return (first, second) if len(first) else None


def _named(name: str, attack: Attack) -> dict[str, float]:
    return {f"membership_{name}_auc": attack.auc, f"membership_{name}_tpr": attack.tpr}
