"""The short form of ``python -m experiments.benchmarks.fuzz payloads``."""

import numpy as np
import pytest

from experiments.benchmarks.fuzz import fuzz, payload_cases
from experiments.benchmarks.mutations import bend_bytes, bend_header, bend_values


def test_honest_messages_are_accepted():
    for case in payload_cases(lambda message, _: message):
        assert case(np.random.default_rng(0)) == "accepted"


def test_mutated_messages_end_in_knowledge_or_in_quarantine():
    findings = fuzz(payload_cases(), 600, seed=1)
    assert findings.crashes == []
    assert findings.slowest < 2
    assert findings.growth < 100
    assert findings.outcomes["refused"] > 150
    assert findings.outcomes["accepted"] > 15
    assert findings.outcomes["some clients refused"] > 2


def test_the_fuzzer_notices_a_crash():
    def case(rng):
        raise KeyError("records")

    findings = fuzz([case], 3)
    assert len(findings.crashes) == 3
    assert "seed 0, message 2" in findings.crashes[2]


@pytest.mark.parametrize("bend", [bend_values, bend_header])
def test_mutations_change_something_and_not_their_input(bend):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    kept = array.copy()
    for number in range(50):
        bend(array, np.random.default_rng(number))
    np.testing.assert_array_equal(array, kept)
    assert any(bend_bytes(b"honest", np.random.default_rng(n)) != b"honest" for n in range(3))
