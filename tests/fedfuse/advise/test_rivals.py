"""FedCollab's coalitions and the threshold of size and heterogeneity, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedfuse.advise.rivals import coalitions, distances, heterogeneity, threshold


def test_clients_that_differ_in_labels_are_told_apart_by_held_out_labels() -> None:
    alike = np.array([[5, 5], [5, 5]])
    assert distances(np.stack([alike, alike])).tolist() == [[0, 0], [0, 0]]
    # Learned on one half: class 0 is the first's. Asked of the other: 3/4 - 1/4; the other way
    # round it is 1 - 0, and the mean of both 3/4.
    halves = np.array([[[4, 0], [0, 4]], [[3, 1], [1, 3]]])
    np.testing.assert_allclose(distances(halves), [[0, 0.75], [0.75, 0]])


def test_what_does_not_hold_on_the_other_half_is_no_distance() -> None:
    by_chance = np.array([[[6, 4], [4, 6]], [[4, 6], [6, 4]]])
    assert distances(by_chance).tolist() == [[0, 0], [0, 0]]
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(25, np.full(10, 0.1), (2, 6)).astype(float)
    plug_in = np.abs(drawn.sum(0)[:, None] - drawn.sum(0)[None]).sum(2) / 100
    off = ~np.eye(6, dtype=bool)
    assert distances(drawn)[off].mean() < 0.5 * plug_in[off].mean()


@pytest.mark.parametrize(
    ("size", "apart", "together"),
    [(100, 0.4, True), (100, 0.8, False), (400, 0.4, False)],
)
def test_two_clients_join_where_samples_save_more_than_distance_costs(
    size: int, apart: float, together: bool
) -> None:
    # Alone 10 / sqrt n; together 10 / sqrt 2n + D / 2: at n = 100 they save 0.293, at 400 0.146.
    found = coalitions(np.array([size] * 2), np.array([[0, apart], [apart, 0]]))
    assert found == ([0, 0] if together else [0, 1])


def test_nobody_gains_for_all_by_moving_alone() -> None:
    rng = np.random.default_rng(3)

    def mean(groups: list[int], sizes: np.ndarray, apart: np.ndarray) -> float:
        total = 0.0
        for i, group in enumerate(groups):
            there = [j for j, other in enumerate(groups) if other == group]
            n = sizes[there].sum()
            total += 10 / np.sqrt(n) + (sizes[there] * apart[i, there]).sum() / n
        return total / len(groups)

    for _ in range(5):
        sizes, place = rng.integers(30, 300, 6), rng.random(6)
        apart = np.abs(place[:, None] - place[None])
        found = coalitions(sizes, apart)
        least = mean(found, sizes, apart)
        assert least < mean(list(range(6)), sizes, apart)
        for i in range(6):
            for to in range(6):
                moved = [to if j == i else group for j, group in enumerate(found)]
                assert mean(moved, sizes, apart) > least - 1e-9


def test_size_times_heterogeneity_by_hand_and_its_threshold() -> None:
    apart = np.array([[0.0, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 0.0]])
    found = heterogeneity(np.array([100, 200, 300]), apart)
    np.testing.assert_allclose(found, [62.5, 50.0, 187.5])
    assert heterogeneity(np.array([9]), np.zeros((1, 1))).tolist() == [0]
    assert threshold(found, np.array([0.1, -0.3, -0.1])) == 0.0
    assert threshold(found, np.array([0.1, 0.3, -0.1])) == 125.0
    assert threshold(np.array([1.0, 1.0]), np.array([0.1, -0.2])) == 0.0  # equals go together
