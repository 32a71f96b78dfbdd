"""What is thinned still tests every value, and all of it runs where everything is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import thinning

ran: list[tuple[str, int]] = []
sampled: list[int] = []


@pytest.mark.thinned
@pytest.mark.parametrize("letter", ["a", "b", "c"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_product(letter: str, number: int) -> None:
    ran.append((letter, number))


@pytest.mark.thinned(keep=3)
@pytest.mark.parametrize("number", range(9))
def test_a_range(number: int) -> None:
    sampled.append(number)


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(thinning, "whole", True)


def test_what_ran_before_this(request: pytest.FixtureRequest) -> None:
    file = [item.name for item in request.session.items if item.path == request.path]
    if not {"test_a_product", "test_a_range"} <= {name.partition("[")[0] for name in file}:
        pytest.skip("the two tests before this were not chosen")
    assert {letter for letter, _ in ran} == {"a", "b", "c"}
    assert {number for _, number in ran} == {1, 2, 3, 4}
    assert len(ran) == (12 if thinning.whole else 4)
    assert sampled == (list(range(9)) if thinning.whole else [0, 4, 8])


def test_a_count(everything: None) -> None:
    assert thinning.few(3, of=10) == 10
