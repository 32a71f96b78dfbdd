"""The bare loop: the same rounds in plain PyTorch, as anyone would write them for one method.

Averaged predictions as the teacher of all (``method=mean``). No messages, no configuration, no
generality: whatever fedfuse takes longer than this is its own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(slots=True)
class Result:
    """What a side did: wall and processor seconds of each round, mean test accuracy at the end."""

    seconds: list[float]
    cpu_seconds: list[float]
    accuracy: float


@dataclass(slots=True)
class Client:
    """One client's tensors, prepared once, and the order in which each round uses them.

    Its own test samples are the rows ``own_test`` of the common test set and those beside them.
    ``private_batches[round]`` and ``public_batches[round]`` are lists of index tensors.
    """

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    val_inputs: Tensor
    val_labels: Tensor
    own_test: Tensor
    beside_inputs: Tensor
    beside_labels: Tensor
    private_batches: list[list[Tensor]]
    public_batches: list[list[Tensor]]


@dataclass(slots=True)
class Shared:
    """What all clients look at."""

    public: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    eval_batch_size: int


def run(
    clients: Sequence[Client], shared: Shared, num_rounds: int, *, tuned: bool = False
) -> Result:
    """Run all rounds, as :func:`rounds` does one by one."""
    *_, last = rounds(clients, shared, num_rounds, tuned=tuned)
    return last


def rounds(
    clients: Sequence[Client], shared: Shared, num_rounds: int, *, tuned: bool = False
) -> Iterator[Result]:
    """Run round by round; yield after each what was done until then.

    Args:
        clients: Left as they are; their models are copied.
        shared: What all clients look at.
        num_rounds: How many rounds.
        tuned: With Adam's fused kernel and weights in ``channels_last``.
    """
    models = [copy.deepcopy(client.model) for client in clients]
    if tuned:
        models = [model.to(memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]
    optimizers = [
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True if tuned else None)
        for model in models
    ]
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    for round_ in range(num_rounds):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        probs = []
        for client, model, optimizer in zip(clients, models, optimizers, strict=True):
            learn(client, model, optimizer, round_)
            probs.append(predict(model, shared.public, shared.eval_batch_size).softmax(dim=1))
            evaluate(client, model, shared)
        teacher = torch.stack(probs).mean(dim=0)
        accuracies = []
        for client, model, optimizer in zip(clients, models, optimizers, strict=True):
            distil(client, model, optimizer, round_, shared.public, teacher)
            accuracies.append(evaluate(client, model, shared))
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
        yield Result(seconds, cpu_seconds, sum(accuracies) / len(accuracies))


def learn(client: Client, model: nn.Module, optimizer: torch.optim.Optimizer, round_: int) -> None:
    """Take one epoch on private data."""
    model.train()
    for index in client.private_batches[round_]:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(client.inputs[index]), client.labels[index])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def distil(
    client: Client,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    round_: int,
    public: Tensor,
    teacher: Tensor,
) -> None:
    """Take one epoch on the public set towards the teacher."""
    model.train()
    for index in client.public_batches[round_]:
        optimizer.zero_grad()
        student = F.log_softmax(model(public[index]), dim=1)
        loss = F.kl_div(student, teacher[index], reduction="batchmean")
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def predict(model: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    """Return the logits of all inputs."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch) for batch in inputs.split(batch_size)])  # type: ignore[no-untyped-call]


def evaluate(client: Client, model: nn.Module, shared: Shared) -> float:
    """Compute accuracy and loss on three sets; return the accuracy on the whole test set."""
    pool = predict(model, shared.test_inputs, shared.eval_batch_size)
    val = predict(model, client.val_inputs, shared.eval_batch_size)
    beside = predict(model, client.beside_inputs, shared.eval_batch_size)
    sets = (
        (pool, shared.test_labels),
        (
            torch.cat([pool[client.own_test], beside]),
            torch.cat([shared.test_labels[client.own_test], client.beside_labels]),
        ),
        (val, client.val_labels),
    )
    figures = [
        (
            (logits.argmax(dim=1) == labels).float().mean().item(),
            F.cross_entropy(logits, labels).item(),
        )
        for logits, labels in sets
    ]
    return figures[0][0]
