"""What of their predictions clients share: the same teachers, other bytes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from clients.sharing.channel import ClientChannel
from experiments.run import main
from fedfuse.codec.channel import uint8
from fedfuse.errors import KnowledgeError
from fedfuse.extract import Probabilities, as_logits, shared_probabilities
from fedfuse.fusion import KnFu, MeanLogits, MeanProbabilities, Pipeline, TopK
from fedfuse.testing.fusion import example_bank
from fedfuse.types import KnowledgeBank
from fedfuse.wire.schema import Expectation
from server.transport.channel import ServerChannel
from tests.tiny import TINY

LINES = [*TINY, "num_clients=3", "baseline=none"]


def run(folder: Path, *overrides: str) -> dict[tuple[int, str, str], float]:
    assert main([*LINES, *overrides, f"hydra.run.dir={folder}"]) == 0
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return {(r["client_id"], r["phase"], r["metric"]): r["value"] for r in rows if r["round"] == 2}


def test_probabilities_by_hand():
    # softmax([0, ln 3]) = (1/4, 3/4); at T = 2 of twice the logits it is the same.
    z = torch.tensor([[0.0, 3.0]]).log().nan_to_num(neginf=0.0)
    torch.testing.assert_close(shared_probabilities(z), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(shared_probabilities(2 * z, 2.0), torch.tensor([[0.25, 0.75]]))
    read = as_logits(torch.tensor([[0.25, 0.75]]), 2.0)
    torch.testing.assert_close(read, torch.tensor([[-2.7726, -0.5754]]), rtol=0, atol=1e-4)
    assert as_logits(torch.tensor([0.0])).isfinite().all()


@pytest.mark.parametrize("rule", [MeanProbabilities(2.0), MeanLogits()])
def test_what_takes_a_softmax_does_not_notice_at_any_temperature(rule):
    bank = example_bank(6, 7, 10)
    extract = Probabilities(3.0)
    shared = replace(bank, logits=extract.read(extract.shared(bank.logits + 50)))
    whole, less = (Pipeline(KnFu(), TopK(3), rule)(b) for b in (bank, shared))
    torch.testing.assert_close(whole.weights, less.weights, rtol=1e-4, atol=1e-5)
    teachers = [f.teachers.targets for f in (whole, less)]
    if isinstance(rule, MeanLogits):
        assert not torch.allclose(*teachers)  # the level is gone
        teachers = [t.softmax(dim=-1) for t in teachers]
    torch.testing.assert_close(*teachers, rtol=1e-4, atol=1e-5)


def test_a_codec_that_knows_of_probabilities_needs_no_range_for_each_row():
    bank = example_bank(2, 5, 10)
    ids = {i: {} for i in (0, 1)}
    sizes, read = [], []
    for extract in (None, Probabilities()):
        channel = uint8() if extract is None else replace(uint8(), extract=extract)
        parcel, _ = ClientChannel(channel).write(bank, ids)
        sizes.append(parcel.num_bytes)
        read.append(
            ServerChannel(channel).read(KnowledgeBank, parcel.arrays(), Expectation((0, 1), 5, 10))
        )
    assert sizes[0] - sizes[1] == 2 * 5 * 8
    for knowledge in read:
        torch.testing.assert_close(
            knowledge.logits.softmax(dim=-1), bank.logits.softmax(dim=-1), rtol=0, atol=0.02
        )
    with pytest.raises(KnowledgeError, match="probabilities where logits"):
        ServerChannel(uint8()).read(KnowledgeBank, parcel.arrays(), Expectation((0, 1), 5, 10))


def test_a_run_with_probabilities_learns_the_same_and_says_what_it_sent(tmp_path):
    plain = run(tmp_path / "a", "method=knfu")
    less = run(tmp_path / "b", "method=knfu", "extract=probabilities")
    assert plain[-1, "fuse", "bytes_up"] == less[-1, "fuse", "bytes_up"]
    for i in range(3):
        assert less[i, "fused", "loss_global"] == pytest.approx(
            plain[i, "fused", "loss_global"], rel=1e-2
        )
    coded = [run(tmp_path / e, f"extract={e}", "codec=uint8") for e in ("logits", "probabilities")]
    up = [table[-1, "fuse", "bytes_up"] for table in coded]
    assert up[0] - up[1] == 3 * 100 * 8


@pytest.mark.parametrize(
    ("method", "words"), [("fedmd", "distill=kl"), ("fedavg", "extract=logits")]
)
def test_where_probabilities_mean_nothing_they_are_refused(tmp_path, capsys, method, words):
    more = [f"method={method}", "extract=probabilities", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main([*LINES, *more]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
