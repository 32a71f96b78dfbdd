"""The mechanism within the chain, and what a run says about it."""

import pytest
import torch
from omegaconf import OmegaConf

from experiments.private import build_privacy, disclosure
from fedfuse.errors import FedfuseError
from fedfuse.occasion import Occasion
from fedfuse.privacy import Gaussian, PrivacyStage
from fedfuse.rng import Streams
from fedfuse.testing.fusion import example_bank


class TenSamples:
    def size(self, round_):
        return 10


def occasion(bank, round_=3):
    counts = torch.ones(bank.num_clients, bank.num_classes, dtype=torch.int64)
    return Occasion("method", round_, torch.arange(bank.logits.shape[1]), counts, {}, Streams(0))


def configuration(**privacy):
    return OmegaConf.create(
        {
            "privacy": privacy or {"_target_": None},
            "client": {"share_class_distribution": False},
            "warmup_rounds": 1,
            "num_rounds": 5,
        }
    )


GAUSSIAN = {"_target_": "fedfuse.privacy.Gaussian", "epsilon": 8.0, "clip": 2.0}


def test_noise_belongs_to_client_and_round_and_not_to_the_cohort():
    stage = PrivacyStage(Gaussian(epsilon=None, noise_multiplier=1.0))
    bank = example_bank(4, 5, 3)
    together = stage(bank, occasion(bank))
    alone = bank.rows(slice(2, 3))
    assert torch.equal(stage(alone, occasion(alone)).logits[0], together.logits[2])
    assert not torch.equal(stage(bank, occasion(bank, 4)).logits, together.logits)
    assert together.num_examples is bank.num_examples


@pytest.mark.parametrize("wrong", [lambda z, _: z[:-1], lambda z, _: z / 0])
def test_a_mechanism_that_breaks_its_promise_is_named(wrong):
    bank = example_bank(2, 5, 3)
    with pytest.raises(FedfuseError, match="client 0"):
        PrivacyStage(wrong)(bank, occasion(bank))


def test_the_noise_is_calibrated_to_every_round_that_shares():
    stage = build_privacy(configuration(**GAUSSIAN), TenSamples())
    expected = Gaussian(clip=2.0, epsilon=8.0).for_queries(40)
    assert stage == PrivacyStage(expected)
    assert build_privacy(configuration(), TenSamples()) is None


def test_the_summary_says_what_was_spent_and_on_what():
    told = disclosure(configuration(**GAUSSIAN), TenSamples(), shares=True)
    line = told.line()
    assert "epsilon 8, delta 1e-05 per client" in line
    assert "40 predictions in 4 rounds" in line
    assert "label histograms did not leave" in line
    assert "not covered: numbers of samples" in line
    assert max(map(len, line.splitlines())) <= 80
    assert told.as_dict()["guarantee"]["num_queries"] == 40


def test_the_summary_says_where_nothing_is_promised_or_shared():
    label_only = configuration(_target_="fedfuse.privacy.LabelOnly")
    assert "no guarantee" in disclosure(label_only, TenSamples(), shares=True).line()
    nothing = disclosure(configuration(**GAUSSIAN), TenSamples(), shares=False)
    assert "nothing was shared" in nothing.line()
    assert nothing.guarantee is None


def test_histograms_are_told_of_also_without_a_mechanism():
    cfg = configuration()
    assert disclosure(cfg, TenSamples(), shares=True).line() is None
    cfg.client.share_class_distribution = True
    assert disclosure(cfg, TenSamples(), shares=True).line() == "label histograms left the clients"
