"""Refuse a batch of one sample, before training, where a model cannot learn from one.

Batch norm, for one, needs two samples to have a variance. A last batch of one comes in a phase
whenever the number of its samples leaves the remainder 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clients.exchange.pooled import Pooled
from experiments.assembly.parts import Parts, build_rounds
from fedfuse.errors import ModelError
from fedfuse.train.work import samples_processed, steps_per_epoch


@dataclass(frozen=True, slots=True)
class Batches:
    """One pass over some samples.

    Args:
        what: The samples in words, as in "the 33 private samples of client 0".
        size: How many they are.
        batch: Samples per step.
        key: The key of that.
        also: Another key and its value that the number of samples follows from; None for none.
    """

    what: str
    size: int
    batch: int
    key: str
    also: str | None = None

    @property
    def lonely(self) -> bool:
        """Whether a batch of it is one sample.

        >>> Batches("x", 65, 64, "k").lonely, Batches("x", 64, 64, "k").lonely
        (True, False)
        """
        return self.size > 0 and _lonely(self.size, self.batch)


def _lonely(size: int, batch: int) -> bool:
    return batch == 1 or size % batch == 1


def refuse_lone(where: str, reason: str, does: str, passes: Iterable[Batches]) -> None:
    """Raise if a batch of one occurs in some pass.

    Args:
        where: The model in words.
        reason: Why it cannot take one.
        does: ``be trained on`` or ``predict``.
        passes: What it goes through.

    Raises:
        ModelError: Naming the samples, and a batch size with which it does not happen.
    """
    every = list(passes)
    first = next((each for each in every if each.lonely), None)
    if first is None:
        return
    alike = [each.size for each in every if each.key == first.key and each.size > 0]
    better = next(
        (
            size
            for far in range(1, max(first.batch, 32))
            for size in (first.batch - far, first.batch + far)
            if size > 1 and not any(_lonely(n, size) for n in alike)
        ),
        None,
    )
    steps = [] if better is None else [f"Set {first.key}={better}"]
    steps += [] if first.also is None else [f"change {first.also.partition('=')[0]}"]
    said = ", or ".join([*steps, "choose a model without batch norm."])
    got = f"{first.key}={first.batch}"
    raise ModelError(
        f"{where} cannot {does} a batch of one sample ({reason}), and the last batch of "
        f"{first.what} is one",
        got=got if first.also is None else f"{first.also}, {got}",
        next_step=said[0].upper() + said[1:],
    )


def trained(parts: Parts, client_ids: Sequence[int]) -> Iterator[Batches]:
    """Yield the passes in which the models of these clients learn, in the order they come."""
    cfg, data = parts.cfg, parts.data
    batch = cfg.client.batch_size
    sizes = {i: len(data.clients[i].train) for i in client_ids}
    pretrains = parts.pretraining
    if pretrains is not None:
        held = round(pretrains.val_fraction * len(data.public))
        yield Batches(
            f"the {len(data.public) - held} public samples of pre-training",
            len(data.public) - held,
            pretrains.batch_size,
            "pretrain.batch_size",
            f"public.size={len(data.public)}",
        )
    if isinstance(parts.exchange, Pooled):
        total = sum(sizes.values())
        yield Batches(f"all {total} private samples", total, batch, "client.batch_size")
    if not isinstance(parts.exchange, Pooled) or cfg.baseline != "none":
        for client_id, size in sizes.items():
            what = f"the {size} private samples of client {client_id}"
            yield Batches(what, size, batch, "client.batch_size")
    if parts.pipeline is not None:
        yield from distilled(parts)
        if cfg.budget == "samples" and cfg.baseline != "none":
            yield from _cut(parts, sizes)
    if (passed := cfg.exchange.get("distill_batch_size")) is not None:
        size = len(data.public)
        what = f"the {size} public samples of the server's distillation"
        yield Batches(what, size, passed, "exchange.distill_batch_size", f"public.size={size}")


def distilled(parts: Parts) -> Iterator[Batches]:
    """Yield the passes over the public samples of each round that fuses."""
    cfg, rounds = parts.cfg, build_rounds(parts.cfg, parts.data)
    fusing = range(cfg.warmup_rounds + 1, cfg.num_rounds + 1)
    for size in sorted({rounds.size(round_) for round_ in fusing}):
        key = "public.size" if size == len(parts.data.public) else "select.size"
        what = f"the {size} public samples of a round"
        batch = cfg.client.distill_batch_size
        yield Batches(what, size, batch, "client.distill_batch_size", f"{key}={size}")


def asked(parts: Parts, client_ids: Sequence[int]) -> Iterator[Batches]:
    """Yield the passes in which the models of these clients are asked for predictions."""
    data, batch = parts.data, parts.cfg.evaluation.batch_size
    sizes = {"test": len(data.test), "public": len(data.public)}
    for client_id in client_ids:
        sizes[f"validation (of client {client_id})"] = len(data.clients[client_id].val)
    for name, size in sizes.items():
        yield Batches(f"the {size} {name} samples", size, batch, "evaluation.batch_size")


def tested(parts: Parts) -> Iterator[Batches]:
    """Yield the pass in which the server's own model is tested."""
    size, batch = len(parts.data.test), parts.cfg.client.distill_batch_size
    yield Batches(f"the {size} test samples", size, batch, "client.distill_batch_size")


def _cut(parts: Parts, sizes: dict[int, int]) -> Iterator[Batches]:
    """Yield how the baseline ends where it stops after as many samples as distillation takes."""
    cfg, rounds = parts.cfg, build_rounds(parts.cfg, parts.data)
    batch = cfg.client.batch_size
    for round_ in range(cfg.warmup_rounds + 1, cfg.num_rounds + 1):
        public = rounds.size(round_)
        steps = cfg.client.distill_epochs * steps_per_epoch(public, cfg.client.distill_batch_size)
        for client_id, size in sizes.items():
            total = cfg.client.distill_epochs * public
            if size and cfg.client.private_weight > 0:
                total += samples_processed(size, batch, steps)
            left = total % size if size else 0
            what = f"the {left} samples with which client {client_id} of the baseline ends"
            yield Batches(what, left, batch, "client.batch_size")
