"""Try every part of the user's own once, on a toy, so that it does not fail after the baseline.

What is demanded here is what its protocol demands (:mod:`fedfuse.protocols`) and no more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from clients.exchange import Predictions
from clients.sharing.own_choice import choice
from experiments.assembly.attack import build_attack
from experiments.assembly.loss_trials import distill, local_loss
from experiments.assembly.parts import Parts, build_probes
from experiments.assembly.privacy import build_mechanism
from experiments.assembly.toy import Toy, alike
from experiments.config.contracts import CONTRACTS, named
from experiments.config.instantiate import instantiate, locate
from experiments.config.plain import plain
from experiments.config.probe_options import GROUP, configured
from experiments.config.untrusted import targets
from fedfuse.arrival import Arrival
from fedfuse.attack import AttackStage
from fedfuse.augment import augmented, chosen
from fedfuse.codec import Channel
from fedfuse.declarations import declared
from fedfuse.extract import ExtractStage
from fedfuse.faults import Fate
from fedfuse.layout import Layout
from fedfuse.merge import Vectors, merged
from fedfuse.merge.answers import answers
from fedfuse.models.plan import one_of_each
from fedfuse.participation import Participants
from fedfuse.privacy import Calibrated, PrivacyStage
from fedfuse.probes import AskedModel, Probes
from fedfuse.request import asked
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds
from fedfuse.testing import example_view
from fedfuse.train.learning_rate import share
from fedfuse.train.views import check_views
from fedfuse.types import Space, Teachers
from fedfuse.uptake import take_up
from fedfuse.user_code import PartError, blamed, is_foreign, kind_of

Attempt = Callable[[Any, Toy], object]
"""Try a part on a toy, and return what it did."""


def try_parts(parts: Parts) -> None:
    """Try each part that is neither fedfuse's nor torch's.

    They are parts of their own, built for this from the configuration, and torch's random numbers
    are put back, so that nothing of it is left.

    Raises:
        FedfuseError: From the first that raises, or returns what its protocol does not allow.
    """
    fuses = parts.pipeline is not None and isinstance(parts.exchange, Predictions)
    for slot, attempt in TRIALS.items():
        node: Any = plain(parts.cfg[slot])
        own = any(is_foreign(locate(target, slot)) for _, target in targets(node))
        if not own or (slot in _FUSING and not fuses):
            continue
        what = named(slot, node["_target_"])
        with torch.random.fork_rng(devices=[]), blamed(what, alone=True):
            _twice(attempt, _built(parts.cfg[slot], slot), Toy(parts, what))

    for node, probe in zip(configured(parts.cfg), build_probes(parts.cfg), strict=True):
        if is_foreign(probe):
            what = named(GROUP, node["_target_"])
            with torch.random.fork_rng(devices=[]), blamed(what, alone=True):
                _twice(_probe, probe, Toy(parts, what))


def _twice(attempt: Attempt, part: Any, toy: Toy) -> None:
    """Try a part twice from the same start; what it does must be the same.

    Server, nodes and resumed runs each ask it anew and must hear the same.
    """
    try:
        again = copy.deepcopy(part)
    except Exception:  # a lock, an open file
        again = part
    if not alike(attempt(again, toy), attempt(part, toy)):
        raise PartError(
            f"{toy.what} is not reproducible",
            got="something else for the same input when it is asked again",
            next_step="Draw what is random from the generator that it is given; where it is given "
            "none, a loss from torch's own, a scorer or rule from one that at_round(round) seeds. "
            "Keep nothing between calls but in state() (fedfuse.protocols.Stateful).",
        )


def _built(node: DictConfig, slot: str) -> Any:
    return build_mechanism(node) if slot == "privacy" else instantiate(node, slot)


def _select(part: Any, toy: Toy) -> object:
    data, streams = toy.parts.data, Streams(toy.parts.cfg.seed)
    rounds = PublicRounds(part, data.public, streams)
    return [rounds.index(round_) for round_ in toy.rounds()]


def _participation(part: Any, toy: Toy) -> object:
    sizes = tuple(len(client.train) for client in toy.parts.data.clients)
    participants = Participants(part, sizes, Streams(toy.parts.cfg.seed))
    return [participants.ids(round_) for round_ in toy.rounds(first=1)]


def _faults(part: Any, toy: Toy) -> object:
    cfg = toy.parts.cfg
    fate = part.fate(0, 1, cfg.num_rounds, Streams(cfg.seed))
    if not isinstance(fate, Fate):
        raise PartError(
            f"{toy.what} did not say what happens to client 0 in round 1",
            got=kind_of(fate),
            allowed="a fedfuse.faults.Fate",
        )
    return fate


def _lr_schedule(part: Any, toy: Toy) -> object:
    rounds = toy.parts.cfg.num_rounds
    return [share(part, done, rounds, toy.what) for done in range(rounds)]


def _private_augment(part: Any, toy: Toy) -> None:
    shape = 3, *toy.parts.data.input_shape
    check_views(part, torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def _extract(part: Any, toy: Toy) -> object:
    return ExtractStage(part)(toy.bank(), toy.context())


def _privacy(part: Any, toy: Toy) -> object:
    if isinstance(part, Calibrated):
        part = part.for_queries(toy.num_public)
    return PrivacyStage(part, simulated=True)(toy.bank(), toy.context())


def _attack(part: Any, toy: Toy) -> None:  # noqa: ARG001 - built with its adversaries
    stage = build_attack(toy.parts.cfg, toy.parts.data)
    assert isinstance(stage, AttackStage)
    stage(toy.bank(), toy.context())
    labels = stage.relabel(stage.adversaries[0], torch.zeros(3, dtype=torch.int64))
    if not isinstance(labels, Tensor) or labels.shape != (3,) or labels.is_floating_point():
        raise PartError(
            f"{toy.what} did not return labels",
            got=kind_of(labels),
            allowed="integers [3] for 3 labels",
        )


def _uptake(part: Any, toy: Toy) -> object:
    bank, context, data = toy.bank(), toy.context(), toy.parts.data
    num_public, draw = min(toy.num_public, 50), torch.Generator().manual_seed(1)
    own = bank.logits[:, :num_public]
    logits, pipeline = own.roll(1, dims=0), toy.parts.pipeline
    assert pipeline is not None
    space = Space(declared(pipeline.rule, "space", Space.PROBABILITIES))
    if space is Space.PROBABILITIES or pipeline.sharpen is not None:
        logits, space = logits.softmax(dim=-1), Space.PROBABILITIES
    weight = torch.ones(own.shape[:2])
    weight[:, 0] = 0  # what nobody answered
    counts = context.class_counts.clone()
    counts[:, 0] = 0  # a class that nobody has
    labels = toy.labels()
    at = Arrival(
        context.arm,
        context.round,
        torch.arange(num_public),
        counts,
        context.memory,
        context.streams,
        labels=None if labels is None else labels[:num_public],
        inputs=torch.randn((num_public, *data.input_shape), generator=draw),
        ask=lambda _: own,
    )
    return take_up(part, Teachers(bank.client_ids, logits, space, weight), at)


def _merge(part: Any, toy: Toy) -> object:
    parts, draw = toy.parts, torch.Generator().manual_seed(0)
    name, model = next(iter(one_of_each(parts.models, parts.data).items()))
    layout = Layout.of(model).part(buffers=False)
    base, ids = layout.flatten(model), torch.arange(min(parts.cfg.num_clients, 3))
    vectors = base + 0.1 * torch.randn(len(ids), len(base), generator=draw)
    weights = (ids + 1).double() / (ids + 1).sum()
    public = torch.randn((min(toy.num_public, 20), *parts.data.input_shape), generator=draw)

    def predict(samples: int) -> torch.Tensor:
        return answers(model, layout, vectors[:2], public[:samples])

    told = layout, name, 1, Streams(parts.cfg.seed), 1.0, predict
    return merged(
        part, [Vectors(ids[:2], vectors[:2], weights[:2] / weights[:2].sum(), base, *told)], [ids]
    )


def _augment(part: Any, toy: Toy) -> object:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn((min(toy.num_public, 20), *toy.parts.data.input_shape), generator=draw)
    sent = None
    if declared(part, "needs_student", False):
        sent = chosen(part, inputs, draw, example_view(inputs, toy.parts.data.num_classes))
    before = inputs.clone()
    made = augmented(part, inputs, draw, sent)
    toy.unchanged(inputs, before)
    return made


def _request(part: Any, toy: Toy) -> object:
    bank, ids = toy.bank(), list(range(toy.parts.cfg.num_clients))
    index, probs = torch.arange(toy.num_public), bank.logits.softmax(dim=-1)
    asked(part, 1, index, ids)
    teachers = Teachers(bank.client_ids, probs, Space.PROBABILITIES)
    part.note(bank, teachers, toy.labels(), 1, index)
    return asked(part, 2, index, ids)


def _chosen(part: Any, toy: Toy, slot: str) -> object:
    own, counts = toy.bank().logits[0], torch.arange(toy.parts.data.num_classes)
    made = [
        part(own.clone(), last, counts, torch.Generator().manual_seed(1))
        for last in (None, own.flip(0))
    ]
    return [choice(slot, part, each, len(own)) for each in made]


def _familiarity(part: Any, toy: Toy) -> object:
    data, draw = toy.parts.data, torch.Generator().manual_seed(0)
    width = 16
    if declared(part, "of", "inputs") != "features":
        width = int(torch.tensor(data.input_shape).prod())
    private, public = torch.randn(40, width, generator=draw), torch.randn(20, width, generator=draw)
    labels = torch.arange(40) % data.num_classes
    answer = part(private, labels, public, torch.Generator().manual_seed(1))
    if not (isinstance(answer, Tensor) and answer.dtype == torch.bool and answer.shape == (20,)):
        toy.expect(answer, (20,), "a mask or a confidence")
    return answer


def _probe(part: Any, toy: Toy) -> object:
    data, draw = toy.parts.data, torch.Generator().manual_seed(0)
    width = int(torch.tensor(data.input_shape).prod())
    torch.default_generator.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, data.num_classes))
    inputs = torch.rand((12, *data.input_shape), generator=draw)
    labels = torch.arange(12) % data.num_classes
    asked = AskedModel(model, lambda: inputs, data.mean, data.std)
    found = Probes([part], Streams(toy.parts.cfg.seed))(asked, inputs, labels, 1)
    return [*found, *map(str, found.values())]


def _codec(part: Any, toy: Toy) -> None:
    made = part() if isinstance(part, partial) else part
    codec = made.up if isinstance(made, Channel) else made
    for slot, given in CONTRACTS["codec"].takes.items():
        if codec is not None and not callable(getattr(codec, slot, None)):
            raise PartError(
                f"{toy.what} made no codec",
                got=f"an instance of {type(codec).__name__}",
                allowed=f"an object with {slot}({', '.join(given)})",
            )
    if codec is None:
        return
    logits = toy.bank().logits[:2]
    for space in Space:
        values = logits if space is Space.LOGITS else logits.softmax(dim=-1)
        message, after = codec.encode(values, space, {}, None)
        arrived, then = codec.decode(message, {})
        toy.expect(arrived, tuple(values.shape), f"{space.value} that can be read again")
        if after.keys() != then.keys():
            raise PartError(
                f"{toy.what} leaves sender and receiver in other states",
                got=f"{sorted(after)} and {sorted(then)}",
            )


def _fusing(slot: str) -> Attempt:
    def attempt(part: Any, toy: Toy) -> object:
        return toy.fuse(**{slot: part})

    return attempt


_FUSING = (
    *("scorer", "neighbours", "rule", "sharpen", "filter", "distill", "uptake", "augment"),
    *("request", "answer", "wish"),
)
TRIALS: dict[str, Attempt] = {
    "select": _select,
    "participation": _participation,
    "faults": _faults,
    "familiarity": _familiarity,
    "local_loss": local_loss,
    "lr_schedule": _lr_schedule,
    "private_augment": _private_augment,
    "attack": _attack,
    "extract": _extract,
    "privacy": _privacy,
    "codec": _codec,
    "uptake": _uptake,
    "merge": _merge,
    "augment": _augment,
    "request": _request,
    "answer": partial(_chosen, slot="answer"),
    "wish": partial(_chosen, slot="wish"),
    **{slot: _fusing(slot) for slot in _FUSING[:5]},
    "distill": distill,
}
"""Slots of which a part can be tried without data; models and optimisers are tried with them."""
