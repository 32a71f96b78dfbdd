"""The bare loop in two processes, each with half of the clients."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import multiprocessing

from experiments.benchmarks.bare import (
    Client,
    Result,
    Shared,
    distil,
    evaluate,
    learn,
    predict,
)


def run(clients: Sequence[Client], shared: Shared, num_rounds: int) -> Result:
    """Run all rounds; processor time is that of both processes together."""
    context = multiprocessing.get_context("spawn")
    half = len(clients) // 2
    pipes, workers = [], []
    for part in (clients[:half], clients[half:]):
        here, there = context.Pipe()
        worker = context.Process(target=_work, args=(list(part), shared, num_rounds, there))
        worker.start()
        pipes.append(here)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()  # has started
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    accuracies: list[float] = []
    for _ in range(num_rounds):
        begin = time.perf_counter()
        for pipe in pipes:
            pipe.send(None)
        total = sum(pipe.recv() for pipe in pipes)
        for pipe in pipes:
            pipe.send(total / len(clients))
        answers = [pipe.recv() for pipe in pipes]
        accuracies = [value for values, _ in answers for value in values]
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(sum(spent for _, spent in answers))
    for worker in workers:
        worker.join()
    return Result(seconds, cpu_seconds, sum(accuracies) / len(accuracies))


def _work(
    clients: list[Client], shared: Shared, num_rounds: int, pipe: Connection[Any, Any]
) -> None:
    torch.set_num_threads(1)
    models = [copy.deepcopy(client.model) for client in clients]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]
    everyone = list(zip(clients, models, optimizers, strict=True))
    pipe.send(None)
    for round_ in range(num_rounds):
        pipe.recv()
        begin = time.process_time()
        total = torch.zeros(())
        for client, model, optimizer in everyone:
            learn(client, model, optimizer, round_)
            probs = predict(model, shared.public, shared.eval_batch_size).softmax(dim=1)
            total = total + probs
            evaluate(client, model, shared)
        pipe.send(total)
        teacher = pipe.recv()
        accuracies = []
        for client, model, optimizer in everyone:
            distil(client, model, optimizer, round_, shared.public, teacher)
            accuracies.append(evaluate(client, model, shared))
        pipe.send((accuracies, time.process_time() - begin))
