"""Cycle, table and tiers: who gets what, and what is refused."""

import pickle
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedfuse.errors import ModelError, ParameterError
from fedfuse.models.assign import Cycle, Same, Table, Tiers
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp


def linear(width):
    return partial(mlp, hidden=width, depth=1)


THREE = {"a": linear(1), "b": linear(2), "c": linear(3)}


def names(plan, num_clients):
    return "".join(plan.name(k) for k in range(num_clients))


def hidden(plan, client_id):
    model = plan.build(client_id, (4,), 5)
    return next(m for m in model.modules() if isinstance(m, nn.Linear)).out_features


def test_same_is_named_after_its_factory():
    assert Same(lenet5).name(3) == "lenet5"
    assert Same(linear(2)).name(0) == "mlp"
    assert Same(lenet5, "net").name(0) == "net"
    assert hidden(Same(linear(2)), 9) == 2


def test_cycle():
    plan = Cycle(THREE)
    assert names(plan, 7) == "abcabca"
    assert [hidden(plan, k) for k in range(4)] == [1, 2, 3, 1]


def test_table_by_list_and_by_id():
    assert names(Table(THREE, ["c", "a", "a"]), 3) == "caa"
    plan = Table(THREE, {"1": "b", 0: "c"})  # a config's keys may be strings
    assert names(plan, 2) == "cb"
    assert [hidden(plan, k) for k in range(2)] == [3, 2]
    with pytest.raises(ModelError, match="no entry for client 2"):
        plan.name(2)


@pytest.mark.parametrize(
    ("num_clients", "shares", "expected"),
    [
        (6, None, "aabbcc"),
        (7, None, "aabbbcc"),  # ends at 7/3 = 2.33 -> 2, 4.67 -> 5, 7
        (2, None, "ac"),  # ends at 0.67 -> 1, 1.33 -> 1, 2
        (10, [0.5, 0.3, 0.2], "aaaaabbbcc"),
        (5, [0.5, 0.5, 0.0], "aaabb"),  # a half goes up
        (10, [0.0, 0.05, 0.95], "bccccccccc"),
        (10, [0.15, 0.1, 0.75], "aabccccccc"),  # 1.5 -> 2, 2.5 -> 3
    ],
)
def test_tiers_by_hand(num_clients, shares, expected):
    assert names(Tiers(THREE, num_clients, shares), num_clients) == expected


@settings(max_examples=50)
@given(st.integers(1, 200), st.lists(st.integers(1, 20), min_size=3, max_size=3))
def test_tiers_are_contiguous_and_within_one_client_of_their_share(num_clients, parts):
    shares = [part / sum(parts) for part in parts]
    plan = Tiers(THREE, num_clients, shares)
    dealt = names(plan, num_clients)
    assert dealt == "".join(sorted(dealt))
    for name, share in zip("abc", shares, strict=True):
        assert abs(dealt.count(name) - share * num_clients) <= 1 + 1e-6


def test_the_last_tier_takes_who_is_left_when_the_shares_sum_to_a_little_less():
    plan = Tiers({"a": linear(1), "b": linear(2)}, 10**6, [0.5, 0.5 - 9e-7])
    assert plan.name(10**6 - 1) == "b"


def test_tiers_know_their_clients():
    with pytest.raises(ModelError, match=r"client 4.*num_clients = 4.*0 to 3"):
        Tiers(THREE, 4).name(4)


@pytest.mark.parametrize(
    "shares",
    [
        [0.5, 0.5],
        [0.5, 0.5, 0.5],
        [1.5, -0.5, 0.0],
        [float("nan"), 0.5, 0.5],
        [True, 0.0, 0.0],
        ["1", 0, 0],
        0.5,
    ],
)
def test_tiers_check_their_shares(shares):
    with pytest.raises(ParameterError, match=r"'shares' parameter of Tiers.*3 numbers"):
        Tiers(THREE, 6, shares)


@pytest.mark.parametrize("num_clients", [0, True, 2.0])
def test_tiers_check_num_clients(num_clients):
    with pytest.raises(ParameterError, match="num_clients"):
        Tiers(THREE, num_clients)


@pytest.mark.parametrize("table", [[], {}, "abc", {"x": "a"}, {-1: "a"}, 3])
def test_table_checks_its_table(table):
    with pytest.raises(ParameterError, match="'table' parameter of Table"):
        Table(THREE, table)


def test_table_knows_its_names():
    with pytest.raises(ModelError, match=r"'lenet'.*allowed: lenet5, mlp.*mean 'lenet5'"):
        Table({"lenet5": lenet5, "mlp": mlp}, ["lenet", "mlp"])


@pytest.mark.parametrize("factories", [{}, None, [mlp]])
@pytest.mark.parametrize(
    "plan", [Cycle, partial(Table, table=["a"]), partial(Tiers, num_clients=2)]
)
def test_plans_need_factories(plan, factories):
    with pytest.raises(ParameterError, match="'factories'"):
        plan(factories=factories)


def test_a_wrong_hyperparameter_is_found_when_the_plan_is_made():
    with pytest.raises(ModelError, match="mean 'hidden'"):
        Cycle({"a": partial(mlp, hiden=3)})


@pytest.mark.parametrize(
    "plan", [Same(mlp), Cycle(THREE), Table(THREE, ["a", "b"]), Tiers(THREE, 2)]
)
def test_plans_travel_to_worker_processes(plan):
    copied = pickle.loads(pickle.dumps(plan))
    assert names(copied, 2) == names(plan, 2)
