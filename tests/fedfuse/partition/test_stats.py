"""Statistics of a partition and its picture in text."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedfuse.errors import PartitionError
from fedfuse.partition import DirichletInner, PartitionStats, preview


def partition_stats(parts, labels, num_classes):
    counts = [np.bincount(labels[part], minlength=num_classes) for part in parts]
    return PartitionStats(np.stack(counts))


def test_by_hand():
    """Entropies 0, log 2, and 0.5 log 2 + 0.5 log 4 = 1.5 log 2; distances 0.5, 0.5, 0.5."""
    stats = PartitionStats(np.array([[4, 0, 0], [5, 5, 0], [4, 2, 2]]), repaired=7)
    assert stats.sizes.tolist() == [4, 10, 8]
    np.testing.assert_allclose(stats.entropy, np.log(2) * np.array([0, 1, 1.5]), atol=1e-15)
    np.testing.assert_allclose(stats.effective_classes, [1, 2, 2**1.5])
    # |p1-p2|/2 = .5; p1-p3: (.5+.25+.25)/2 = .5; p2-p3: (0+.25+.25)/2 = .25
    assert stats.mean_distance == pytest.approx((0.5 + 0.5 + 0.25) / 3)
    summary = stats.summary()
    assert summary["repaired"] == 7
    assert (summary["size_min"], summary["size_max"], summary["num_samples"]) == (4, 10, 22)
    assert "repaired" not in PartitionStats(np.ones((2, 2), int)).summary()


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        np.int64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.integers(1, 50)
    )
)
def test_mean_distance_is_the_loop_over_pairs(counts):
    p = counts / counts.sum(axis=1, keepdims=True)
    pairs = [0.5 * np.abs(a - b).sum() for a, b in itertools.combinations(p, 2)]
    expected = np.mean(pairs) if pairs else 0.0
    assert PartitionStats(counts).mean_distance == pytest.approx(expected, abs=1e-12)


def test_an_empty_client_is_refused():
    with pytest.raises(PartitionError, match="without an empty client"):
        PartitionStats(np.array([[1, 0], [0, 0]]))


@pytest.mark.parametrize("num_classes", [1, 2, 10, 11, 26, 54, 100, 1000])
@pytest.mark.parametrize("num_clients", [1, 10, 21, 300])
@pytest.mark.parametrize("width", [40, 80])
def test_a_preview_never_is_wider_than_asked(num_classes, num_clients, width):
    labels = np.arange(60_000) % num_classes
    parts = DirichletInner(0.5)(labels, num_clients, np.random.default_rng(0))
    names = [f"a long class name {c}" for c in range(num_classes)]
    for class_names in (None, names):
        text = preview(partition_stats(parts, labels, num_classes).counts, class_names, width)
        lines = text.split("\n")
        assert max(map(len, lines)) <= width
        assert len(lines) <= 1 + 21 + 2 * 3
        assert f"{num_clients} clients, 60000 samples" in text


def test_rows_in_the_middle_are_counted_not_shown():
    text = preview(np.ones((45, 3), dtype=np.int64))
    shown = [line.split()[0] for line in text.split("\n")[1:-1]]
    assert shown == [*map(str, range(10)), "...", *map(str, range(35, 45))]
    assert "(25 more clients)" in text


def test_numbers_stand_in_their_columns():
    text = preview(np.array([[1200, 0, 3], [0, 50, 0]]), ["cat", "dog", "bird"])
    assert text.split("\n")[:3] == [
        "client  samples  effective   cat   dog  bird",
        "     0     1203        1.0  1200     .     3",
        "     1       50        1.0     .    50     .",
    ]


def test_many_classes_become_shades_of_their_share():
    counts = np.zeros((2, 40), dtype=np.int64)
    counts[0, 3], counts[1, 3], counts[1, 39] = 90, 1, 99
    heading, first, second, legend, _ = preview(counts, width=80).split("\n")
    assert heading.endswith("classes 0 to 39")
    assert first[-40:] == "..." + "█" + "." * 36
    assert second[-40:] == "..." + "░" + "." * 35 + "█"
    assert legend == "share: . none  ░ to 6.2%  ▒ to 25%  ▓ to 56%  █ to 100%"
