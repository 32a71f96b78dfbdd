"""The configuration groups build the parts they name, with the classes' defaults but for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fedfuse import distill, fusion

CONF = Path(__file__).parents[3] / "experiments" / "conf"

EXPECTED = {
    "scorer/knfu": fusion.KnFu(beta=3.0, temperature=2.0),  # by measurement, see the README
    "scorer/uniform": fusion.Uniform(),
    "scorer/data_size": fusion.DataSize(),
    "scorer/by_class": fusion.ByClass(fusion.Uniform(), temperature=2.0),
    "scorer/knfu_by_class": fusion.ByClass(fusion.KnFu(temperature=2.0), temperature=2.0),
    "neighbours/all": fusion.All(),
    "neighbours/all_but": fusion.AllBut(),
    "neighbours/top_k": fusion.TopK(),
    "neighbours/top_p": fusion.TopP(),
    "neighbours/threshold": fusion.Threshold(),
    "neighbours/mutual": fusion.Mutual(),
    "rule/mean_probs": fusion.MeanProbabilities(2.0),
    "rule/mean_logits": fusion.MeanLogits(),
    "rule/geometric_mean": fusion.GeometricMean(2.0),
    "rule/none": None,
    "sharpen/none": None,
    "sharpen/era": fusion.ERA(),
    "sharpen/hard": fusion.Hard(),
    "sharpen/power": fusion.Power(),
    "distill/ofa": distill.OFA(temperature=2.0),
    "distill/with_labels": distill.WithLabels(base=distill.KL(2.0)),
    "distill/ap_at_k": distill.APAtK(base=distill.KL(2.0)),
    "distill/dkd": distill.DKD(temperature=2.0),
    "distill/relation_graph": distill.RelationGraph(temperature=2.0),
    "distill/cross_correlation": distill.CrossCorrelation(),
    "distill/dist": distill.DIST(temperature=2.0),
    "distill/similarity": distill.Similarity(temperature=2.0),
    "distill/kl": distill.KL(2.0),
    "distill/soft_ce": distill.SoftCrossEntropy(2.0),
    "distill/mse": distill.MSELogits(),
    "distill/mae": distill.MAELogits(),
    "distill/bd_kd": distill.BalancedKL(2.0),
    "distill/std_kd": distill.StandardisedKL(),
    "distill/skew_kl": distill.Divergence("skew_kl", 0.1, 2.0),
    "distill/skew_rkl": distill.Divergence("skew_rkl", 0.1, 2.0),
    "distill/js": distill.Divergence("js", 0.5, 2.0),
    "distill/tvd": distill.Divergence("tvd", None, 2.0, scale_by_t2=False),
    "distill/adaptive_kl": distill.Divergence("adaptive_kl", 0.5, 2.0),
    "distill/taid": distill.TAID(2.0),
    "distill/tgeo": distill.TGeo(temperature=2.0),
}
ELSEWHERE = {
    "scorer": {
        "client_clusters",
        "client_confidence",
        "gradient_agreement",
        "kta",
        "ktpfl",
        "nearest_neighbour_probe",
        "random",
        "reciprocal_rank",
        "reference_accuracy",
        "shuffled",
        "uploaded",
    },
    "rule": {
        "confidence",
        "best_source",
        "better_sources",
        "contrastive",
        "dempster",
        "coordinate_median",
        "geometric_median",
        "homeostatic",
        "krum",
        "logit_adjusted",
        "logit_arithmetic",
        "mix_by_round",
        "only_asked",
        "own_or_fused",
        "right_and_sure",
        "sample_clusters",
        "spectral_filter",
        "trimmed_mean",
        "uploaded_confidence",
    },
    "distill": {"weighted_sum"},
}
"""Options that other tests build: of losses, those made of other options, in whole runs."""

GROUPS = ("scorer", "neighbours", "rule", "sharpen", "distill")


@pytest.mark.parametrize("option", EXPECTED)
def test_an_option_builds_its_part_at_the_defaults(option: str) -> None:
    config = OmegaConf.create({"temperature": 2.0})
    config.part = OmegaConf.load(CONF / f"{option}.yaml")
    target = config.part["_target_"]
    part = None if target is None else instantiate(config.part)
    assert part == EXPECTED[option]


@pytest.mark.parametrize("group", GROUPS)
def test_no_option_is_forgotten_and_every_group_takes_ones_own(group: str) -> None:
    shipped = {path.stem for path in (CONF / group).glob("*.yaml")}
    named = {option.split("/")[1] for option in EXPECTED if option.startswith(f"{group}/")}
    assert shipped == named | ELSEWHERE.get(group, set()) | {"custom"}
    custom = OmegaConf.load(CONF / group / "custom.yaml")
    assert OmegaConf.is_missing(custom, "_target_")
