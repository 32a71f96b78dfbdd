"""Features and prototypes beside predictions: how they travel, of one width, counted, refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from clients.exchange import FeaturePredictions
from clients.exchange.feature_predictions import CAME, PRESENT
from clients.sharing.channel import ClientChannel
from experiments.assembly.capabilities import check
from experiments.config import compose
from fedfuse.codec import PLAIN
from fedfuse.codec.parcel import Parcel, open_knowledge, open_teachers, seal_knowledge
from fedfuse.errors import ConfigError, KnowledgeError, ModelError, ParameterError
from fedfuse.exchange.beside import FEATURES, PROTOTYPES, MeanBeside, mean_features
from fedfuse.exchange.kind import Kind
from fedfuse.models.mlp import mlp
from fedfuse.models.projection import projection
from fedfuse.testing import check_exchange
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers
from fedfuse.wire.encode import decode, encode
from server.transport.channel import ServerChannel, distinct_bytes

K, P, C, D = 3, 5, 4, 2
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Both(FeaturePredictions):
    """Everything up and down; nobody learns of it."""

    up: ClassVar[frozenset[str]] = FEATURES | PROTOTYPES
    down: ClassVar[frozenset[str]] = FEATURES | PROTOTYPES


@dataclass(frozen=True, slots=True)
class Asked(Both):
    """And what came must be the mean of what a client of one architecture sent."""

    def lesson(self, tasks, tools, round_, received):
        width = tools.width
        assert received.features.shape[2] == received.prototypes.shape[2] == width
        for student, _ in tasks:
            memory = tools.memory(student.client_id)
            assert memory[CAME].shape == (tools.inputs.data.num_classes, width)
            assert memory[PRESENT].any()
            tools.found.setdefault(student.client_id, {})["width"] = float(width)
        return tasks


def no_head(input_shape, num_classes) -> torch.nn.Module:
    """A model that ends in a convolution."""
    last = torch.nn.Conv2d(input_shape[0], num_classes, input_shape[1:])
    return torch.nn.Sequential(last, torch.nn.Flatten())


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the configuration find this file's exchanges."""
    (tmp_path / "exchanges_of_the_test.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("exchanges_of_the_test", None)


def bank(mask: torch.Tensor | None = None) -> KnowledgeBank:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(K, P, D, generator=draw)
    present = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()
    prototypes = torch.randn(K, C, D, generator=draw) * present.unsqueeze(2)
    return KnowledgeBank(
        torch.arange(K),
        torch.randn(K, P, C, generator=draw),
        torch.tensor([10, 20, 30]),
        mask=mask,
        features=features,
        prototypes=prototypes,
        present=present,
    )


KIND = Kind(KnowledgeBank, Teachers, {"D": D}, up=FEATURES | PROTOTYPES, down=PROTOTYPES)
UP = KIND.expect((0, 1, 2), P, C)


def same(one: object, other: object) -> bool:
    return one is other or torch.equal(one, other)  # type: ignore[arg-type]


# -- what travels ----------------------------------------------------------------------------------


def test_W8_fields_arrive_as_they_were_sent_and_are_counted() -> None:
    sent = bank()
    arrived = decode(KnowledgeBank, encode(sent), UP)
    for name in ("logits", "features", "prototypes", "present"):
        assert torch.equal(getattr(arrived, name), getattr(sent, name))
    bare = replace(sent, features=None, prototypes=None, present=None)
    more = len(next(sent.messages())) - len(next(bare.messages()))
    assert more == 4 * P * D + 4 * C * D + C


def test_W8_with_a_mask_only_the_features_of_its_samples_travel() -> None:
    mask = torch.zeros(K, P, dtype=torch.bool)
    mask[:, :2] = mask[1, 4] = True
    sent = bank(mask)
    parcel, _ = ClientChannel().write(sent, {i: {} for i in range(K)})
    assert isinstance(parcel, Parcel)
    arrays = parcel.arrays()
    assert arrays["encoded/features"].nbytes == 4 * D * int(mask.sum())
    assert Parcel.exchanged_bytes(arrays) == parcel.num_bytes
    arrived = ServerChannel().read(KnowledgeBank, arrays, UP)
    assert isinstance(arrived, KnowledgeBank)
    assert torch.equal(arrived.features, sent.features * mask.unsqueeze(2))
    assert same(arrived.prototypes, sent.prototypes)
    assert same(arrived.present, sent.present)


def test_W8_parcels_of_several_nodes_are_joined_and_divided() -> None:
    mask = torch.ones(K, P, dtype=torch.bool)
    mask[0, 1] = False
    whole, _ = seal_knowledge(bank(mask), PLAIN, {})
    parts = [whole.rows(torch.tensor(rows)) for rows in ([2], [0, 1])]
    joined, _ = open_knowledge(Parcel.stack(parts), PLAIN, {})
    once, _ = open_knowledge(whole, PLAIN, {})
    assert torch.equal(joined.features, once.features)
    assert torch.equal(joined.prototypes, once.prototypes)


def test_W8_teachers_with_weights_carry_theirs() -> None:
    down = Kind(KnowledgeBank, Teachers, {"D": D}, down=FEATURES | PROTOTYPES)
    source = bank()
    targets = source.logits.softmax(dim=2)
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0]).expand(K, P)
    teachers = Teachers(
        source.client_ids,
        targets,
        Space.PROBABILITIES,
        weight,
        source.features,
        source.prototypes,
        source.present,
    )
    sent = ServerChannel().write(teachers, 1)
    assert isinstance(sent, Parcel)
    parcel = Parcel.read(sent.arrays(), down.expect((0, 1, 2), P, C, down=True))
    arrived, _ = open_teachers(parcel, PLAIN, {})
    assert torch.equal(arrived.features, source.features * (weight > 0).unsqueeze(2))
    assert same(arrived.prototypes, source.prototypes)
    plain = replace(teachers, sample_weight=None)
    assert ServerChannel().write(plain, 1) is plain
    one = plain.rows(torch.tensor([0, 0, 0]))
    assert distinct_bytes(plain) == 3 * distinct_bytes(one)
    assert distinct_bytes(one) == 4 * P * C + 4 * P * D + 4 * C * D + C


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("features"), "no 'features'"),
        (lambda a: a.update(features=a["features"][:, :, :1]), "'features' has the wrong number"),
        (lambda a: a.update(features=a["features"][:, :3]), "'features' has the wrong number"),
        (lambda a: a["features"].__setitem__((1, 0, 0), float("inf")), "'features' of client 1"),
        (lambda a: a["features"].__setitem__((2, 1, 1), 3e38), "'features' of client 2.*too large"),
        (
            lambda a: a["prototypes"].__setitem__((2, 0, 0), float("nan")),
            "'prototypes' of client 2",
        ),
        (lambda a: a.update(present=a["present"].astype("uint8")), "'present' has the wrong type"),
    ],
    ids=["missing", "narrow", "few", "infinite", "large", "nan", "type"],
)
def test_W8_what_is_not_what_was_asked_for_is_refused(change, words) -> None:
    arrays = {name: array.copy() for name, array in encode(bank()).items()}
    change(arrays)
    with pytest.raises(KnowledgeError, match=words):
        decode(KnowledgeBank, arrays, UP)


def test_W8_what_nobody_asked_for_is_refused_too() -> None:
    plain = Kind(KnowledgeBank, Teachers).expect((0, 1, 2), P, C)
    with pytest.raises(KnowledgeError, match="an unknown 'features'"):
        decode(KnowledgeBank, encode(bank()), plain)
    mask = torch.ones(K, P, dtype=torch.bool)
    parcel, _ = seal_knowledge(bank(mask), PLAIN, {})
    with pytest.raises(KnowledgeError, match="damaged"):
        ServerChannel().read(KnowledgeBank, parcel.arrays(), plain)


@pytest.mark.parametrize("bad", ["size", "number", "type", "missing"])
def test_W8_damaged_parcels_are_refused(bad: str) -> None:
    mask = torch.ones(K, P, dtype=torch.bool)
    mask[0, 0] = False
    parcel, _ = seal_knowledge(bank(mask), PLAIN, {})
    arrays = {name: array.copy() for name, array in parcel.arrays().items()}
    if bad == "size":
        arrays["lengths/features"][:2] += [D, -D]
    elif bad == "number":
        arrays["encoded/features"][3] = float("nan")
    elif bad == "type":
        arrays["encoded/features"] = arrays["encoded/features"].astype("float64")
    else:
        del arrays["encoded/features"], arrays["lengths/features"]
    with pytest.raises(KnowledgeError):
        ServerChannel().read(KnowledgeBank, arrays, UP)


def test_W8_a_kind_says_how_wide_and_asks_only_for_what_there_is() -> None:
    with pytest.raises(ConfigError, match="Nobody says how large the dimension D"):
        Kind(KnowledgeBank, Teachers, up=FEATURES)
    with pytest.raises(ConfigError, match="no such fields to ask for"):
        Kind(KnowledgeBank, Teachers, {"D": 3}, up=frozenset({"logits"}))


# -- what the server makes of it -------------------------------------------------------------------


def test_W8_the_mean_is_over_who_answers_and_over_owners() -> None:
    mask = torch.ones(K, P, dtype=torch.bool)
    mask[0, 1] = mask[:, 2] = False
    knowledge = bank(mask)
    assert knowledge.features is not None
    got = mean_features(knowledge.features, mask)
    torch.testing.assert_close(got[0], knowledge.features[:, 0].mean(dim=0))
    torch.testing.assert_close(got[1], knowledge.features[1:, 1].mean(dim=0))
    assert not got[2].any()
    said = Teachers(knowledge.client_ids, knowledge.logits, Space.LOGITS)
    fusion = MeanBeside(FEATURES | PROTOTYPES)(knowledge, Fusion(said, None), 1)
    down = fusion.teachers
    assert isinstance(down, Teachers)
    assert torch.equal(down.features, got.expand(K, P, D))
    assert down.present is not None
    assert down.present.tolist() == [[True, True, True, False]] * K
    torch.testing.assert_close(down.prototypes[1, 1], knowledge.prototypes[[0, 2], 1].mean(dim=0))


# -- one width for all -----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "width"), [(3, 7), (7, 3), (4, 4)])
def test_W8_the_projection_is_orthogonal_and_of_its_seed(size: int, width: int) -> None:
    fixed = projection(size, width, 5, CPU)
    assert fixed.shape == (size, width)
    small = fixed @ fixed.T if size <= width else fixed.T @ fixed
    torch.testing.assert_close(small, torch.eye(min(size, width)), atol=1e-6, rtol=0)
    assert projection(size, width, 5, CPU) is fixed
    assert not torch.equal(projection(size, width, 6, CPU), fixed)


def test_W8_every_exchange_of_features_keeps_its_promises() -> None:
    check_exchange(FeaturePredictions())
    check_exchange(Both(width=5), partial(mlp, hidden=8, depth=1))


def words(name: str) -> list[str]:
    return ["method=mean", "exchange=custom", f"exchange._target_=exchanges_of_the_test.{name}"]


def metric(run, name: str, round_: int = 2) -> list[float]:
    found = run.metrics
    return found[(found.metric == name) & (found["round"] == round_)].value.tolist()


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


RUN = ["baseline=none", "checkpoint.every=0", "models=save", "dataset.num_train=300"]
RUN += ["public.size=40", "evaluation.own_test_samples=50"]


def test_W8_what_nobody_learns_of_changes_nothing_but_the_bytes(simulate) -> None:
    plain, both = simulate("method=mean", *RUN), simulate(*words("Both"), *RUN)
    assert torch.equal(weights(plain), weights(both))
    num_classes, width = 10, 200  # the mlp's last hidden layer
    more = 3 * (4 * 40 * width + 4 * num_classes * width + num_classes)
    for name in ("bytes_up", "bytes_down"):
        assert metric(both, name)[0] - metric(plain, name)[0] == more


def test_W8_models_of_several_widths_share_one(simulate) -> None:
    """Three architectures; by default as many travel as the smallest has, or as one says."""
    three = ["model=cycle", "model.factories.mlp.hidden=8"]
    for width, words_ in ((8, []), (90, ["exchange.width=90"])):
        run = simulate(*words("Asked"), *three, *words_, *RUN)
        assert metric(run, "width") == [width] * 3


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["codec=fp16"], r"A codec writes predictions.*Set codec=none"),
        (["cache=rounds"], "A cache keeps fused predictions, and not"),
        (["privacy=laplace"], "would leave bare"),
        (["attack=random_logits"], "beside them would be honest"),
        (["distill=tgeo"], "learn for themselves"),
        (["rule=none"], "this method fuses none"),
        (["exchange.width=0"], "'width' parameter"),
    ],
    ids=lambda case: case[0] if isinstance(case, list) else "",
)
def test_W8_refuses_before_training(simulate, chosen, said) -> None:
    with pytest.raises((ConfigError, ParameterError), match=said):
        simulate(*words("Both"), *chosen, *RUN)


@pytest.mark.parametrize("attack", ["label_flip", "permuted_labels"])
def test_W8_who_learns_from_wrong_labels_sends_features_as_wrong(attack) -> None:
    check(compose.configure([*words("Both"), f"attack={attack}"]))


def test_W8_models_without_features_are_refused_before_training(simulate) -> None:
    with pytest.raises(ModelError, match="Features cannot be taken"):
        simulate(
            *words("Both"), "model=custom", "model._target_=exchanges_of_the_test.no_head", *RUN
        )
