"""The mechanism within the chain, and what a run says about it."""

from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from clients.exchange import (
    Averaged,
    GlobalHeader,
    GroupKnowledge,
    KnowledgeCache,
    LatentFeatures,
    Pooled,
    Predictions,
    Prototypes,
)
from experiments.assembly.privacy import build_privacy, disclosure
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.models.mlp import mlp
from fedfuse.privacy import Gaussian, Laplace, PrivacyStage, Swing
from fedfuse.privacy.bound import centre, clip_l2
from fedfuse.privacy.draw import draw_laplace, draw_normal
from fedfuse.privacy.secret import SecretGenerator, new_secret, secret_generator
from fedfuse.privacy.stage import SECRET
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.testing.fusion import example_bank


class TenSamples:
    def size(self, round_):
        return 10


def context(bank, round_=3, memory=None):
    counts = torch.ones(bank.num_clients, bank.num_classes, dtype=torch.int64)
    index = torch.arange(bank.logits.shape[1])
    memory = {i: {} for i in bank.client_ids.tolist()} if memory is None else memory
    return SharingContext("method", round_, index, counts, memory, Streams(0))


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


@pytest.mark.parametrize("simulated", [True, False])
def test_noise_belongs_to_client_and_round_and_not_to_the_cohort(simulated):
    stage = PrivacyStage(Gaussian(epsilon=None, noise_multiplier=1.0), simulated)
    bank = example_bank(4, 5, 3)
    memory = {i: {SECRET: new_secret()} for i in bank.client_ids.tolist()}
    again = {i: dict(kept) for i, kept in memory.items()}
    together = stage(bank, context(bank, memory=memory))
    alone = bank.rows(slice(2, 3))
    assert torch.equal(stage(alone, context(alone, memory=again)).logits[0], together.logits[2])
    assert not torch.equal(stage(bank, context(bank, 4, memory)).logits, together.logits)
    assert together.num_examples is bank.num_examples


NOISY = [
    Gaussian(epsilon=None, noise_multiplier=1.0),
    Laplace(epsilon=None, noise_multiplier=1.0),
    Swing(noise=0.5),
    lambda logits, generator: logits + torch.randn(logits.shape, generator=generator),
]


@pytest.mark.parametrize("mechanism", NOISY)
def test_whoever_knows_the_run_and_its_seed_cannot_draw_a_clients_noise(mechanism):
    bank = example_bank(2, 5, 3)
    known = PrivacyStage(mechanism, simulated=True)(bank, context(bank))
    one, other = (PrivacyStage(mechanism)(bank, context(bank)) for _ in range(2))
    for sent in (one, other):
        assert float((sent.logits - known.logits).abs().max()) > 1e-2
    assert float((one.logits - other.logits).abs().max()) > 1e-2


def test_the_simulated_noise_comes_off_and_the_secret_noise_does_not():
    mechanism = Gaussian(epsilon=None, noise_multiplier=40.0)
    bank = example_bank(1, 50, 10)
    clean = clip_l2(centre(bank.logits[0]), 5.0)
    generator = Streams(0).torch("client", 0, "privacy", 3)
    noise = 400 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    for simulated, error in ((True, 1e-4), (False, torch.inf)):
        sent = PrivacyStage(mechanism, simulated)(bank, context(bank)).logits[0]
        off = float((sent - noise - clean).abs().max())
        assert off <= error
        assert simulated or off > 100


def test_a_round_is_answered_once():
    stage = PrivacyStage(Gaussian(epsilon=None, noise_multiplier=1.0), rounds=range(2, 6))
    bank = example_bank(2, 5, 3)
    other = replace(bank, logits=bank.logits.flip(1))
    memory = {i: {} for i in bank.client_ids.tolist()}
    sent = stage(bank, context(bank, 3, memory)).logits
    assert torch.equal(stage(bank, context(bank, 3, memory)).logits, sent)
    # Under one noise the difference of two answers would be bare.
    assert torch.equal(stage(other, context(other, 3, memory)).logits, sent)
    with pytest.raises(FedfuseError, match="a round that is over"):
        stage(bank, context(bank, 2, memory))
    with pytest.raises(FedfuseError, match="does not cover: got round 6"):
        stage(bank, context(bank, 6, memory))


def test_secret_numbers_are_reproducible_and_have_their_distributions():
    secret, size = new_secret(), [100_000]
    assert not torch.equal(secret, new_secret())
    for draw in (draw_normal, draw_laplace):
        one = draw(size, secret_generator(secret, "a", 1))
        assert torch.equal(one, draw(size, secret_generator(secret, "a", 1)))
        assert not torch.equal(one, draw(size, secret_generator(secret, "a", 2)))
        twice = secret_generator(secret, "a", 1)
        assert not torch.equal(draw(size, twice), draw(size, twice))
    fixed = torch.arange(32, dtype=torch.uint8)
    normal = draw_normal(size, secret_generator(fixed, "normal")).sort().values
    expected = torch.distributions.Normal(0.0, 1.0).cdf(normal)
    steps = torch.arange(1, size[0] + 1) / size[0]
    assert float((expected - steps).abs().max()) < 1.63 / size[0] ** 0.5  # Kolmogorov, 1 %
    laplace = draw_laplace(size, secret_generator(fixed, "laplace")).sort().values
    expected = torch.distributions.Laplace(0.0, 1.0).cdf(laplace)
    assert float((expected - steps).abs().max()) < 1.63 / size[0] ** 0.5


def test_a_secret_is_longer_than_what_torch_keeps_of_a_seed():
    # torch's own generators repeat after 2**32 seeds, which are tried in no time.
    plain = [torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32)]
    assert torch.equal(*(torch.rand(4, generator=generator) for generator in plain))
    keys = [bytes([5, 0, 0, 0, top, *[0] * 27]) for top in (0, 1)]
    assert not torch.equal(*(torch.rand(4, generator=SecretGenerator(key)) for key in keys))


@pytest.mark.parametrize("simulated", [True, False])
def test_K1_each_client_is_flattened_by_its_own_class_counts(simulated):
    bank = example_bank(2, 5, 3)
    counts = torch.tensor([[60, 30, 10], [10, 30, 60]])
    given = replace(context(bank), class_counts=counts)
    mechanism = Swing(noise=0.0, score="rarity")
    sent = PrivacyStage(mechanism, simulated)(bank, given).logits
    for row in range(2):
        expected = mechanism(bank.logits[row], torch.Generator(), counts[row])
        torch.testing.assert_close(sent[row], expected)
    anew = replace(given, memory={0: {}, 1: {}})
    plain = PrivacyStage(Swing(noise=0.0), simulated)(bank, anew).logits
    assert float((plain - sent).abs().max()) > 1e-3


@pytest.mark.parametrize("wrong", [lambda z, _: z[:-1], lambda z, _: z / 0])
def test_a_mechanism_that_breaks_its_promise_is_named(wrong):
    bank = example_bank(2, 5, 3)
    with pytest.raises(FedfuseError, match="client 0"):
        PrivacyStage(wrong)(bank, context(bank))


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


def test_noise_from_the_public_seed_promises_nothing_and_says_why():
    told = disclosure(configuration(**GAUSSIAN, seed="simulated"), TenSamples(), shares=True)
    assert told.guarantee is None
    line = told.line()
    assert "no epsilon" in line
    assert "privacy.seed=simulated" in line
    assert "epsilon 8" not in line
    label_only = configuration(_target_="fedfuse.privacy.LabelOnly", seed="simulated")
    assert "no guarantee" in disclosure(label_only, TenSamples(), shares=True).line()


@pytest.mark.parametrize("seed", [0, None, "public", True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ConfigError, match=r"privacy\.seed"):
        build_privacy(configuration(**GAUSSIAN, seed=seed), TenSamples())


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


@pytest.mark.parametrize(
    ("exchange", "tells"),
    [
        (LatentFeatures(), True),
        (GroupKnowledge(model=mlp), True),
        (KnowledgeCache(), True),
        (Prototypes(by_count=True), True),
        (Prototypes(), False),
        (GlobalHeader(), False),
        (Pooled(), True),
    ],
)
def test_histograms_that_an_exchange_needs_are_told_of(exchange, tells):
    told = disclosure(configuration(), TenSamples(), shares=True, exchange=exchange)
    assert (told.label_histograms, told.line() is not None) == (tells, tells)
    assert not disclosure(configuration(), TenSamples(), shares=False).label_histograms


@pytest.mark.parametrize(
    ("exchange", "line"),
    [
        (Pooled(), "all private data left the clients"),
        (GroupKnowledge(model=mlp), "labels, logits and features of all private samples left the "),
        (KnowledgeCache(), "labels, logits and hashes of all private samples left the clients"),
        (LatentFeatures(), "label histograms left the clients"),
    ],
)
def test_where_samples_themselves_left_it_is_not_called_a_histogram(exchange, line):
    told = disclosure(configuration(), TenSamples(), shares=True, exchange=exchange)
    assert told.line().startswith(line)
    assert disclosure(configuration(), TenSamples(), shares=False, exchange=exchange).samples == ""


@pytest.mark.parametrize(("exchange", "left"), [(Averaged(), False), (Predictions(), True)])
def test_a_histogram_that_may_leave_does_so_only_with_predictions(exchange, left):
    cfg = configuration()
    cfg.client.share_class_distribution = True
    told = disclosure(cfg, TenSamples(), shares=True, exchange=exchange)
    assert told.label_histograms is left
