"""Losses of distillation that a client learns for itself, in place of one for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clients.exchange.protocol import Task, Tools
from fedfuse.declarations import declared
from fedfuse.errors import DataError
from fedfuse.train.facts import as_trained
from fedfuse.train.own_loss import LossContext, learns_by_client


def with_own_losses(tools: Tools, tasks: Sequence[Task], round_: int) -> list[Task]:
    """Return the steps of distillation, each with its client's own loss if there is such a thing.

    Raises:
        DataError: If a client holds no samples back, and the loss learns by them.
    """
    loss = tools.work_plan.loss
    if not learns_by_client(loss):
        return list(tasks)
    made: list[Task] = []
    for student, work in tasks:
        client_id = student.client_id
        client = tools.inputs.data.clients[client_id]
        if declared(loss, "needs_validation", False) and not len(client.val):
            raise DataError(
                f"Client {client_id} holds back no validation samples, and its loss learns by them",
                next_step="Raise val_fraction, or choose distill=kl.",
            )
        inputs, labels = tools.inputs.rows(tools.inputs.data.train, client.val, client)
        context = LossContext(
            memory=tools.memory(client_id),
            inputs=inputs,
            labels=labels,
            learning_rate=float(student.optimizer.param_groups[0].get("lr", 1.0)),
            entropy=tools.streams.entropy("client", client_id, "own_loss", round_),
            report=tools.found.setdefault(client_id, {}),
        )
        own = loss.of_client(context)
        made.append((student, replace(work, loss=as_trained(own), before_step=own.before_step)))
    return made
