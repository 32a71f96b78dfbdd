"""What clients send and receive in a round, one way of exchange a file."""

from clients.exchange.apfl import APFL
from clients.exchange.averaged import Averaged
from clients.exchange.class_logits import ClassLogits
from clients.exchange.creamfl import CreamFL
from clients.exchange.distilled import DistilledOnServer
from clients.exchange.ditto import Ditto
from clients.exchange.fccl import FCCL, FCCLPlus
from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.global_header import GlobalHeader
from clients.exchange.group_knowledge import GroupKnowledge
from clients.exchange.interactive import Interactive
from clients.exchange.knowledge_cache import KnowledgeCache
from clients.exchange.latent_features import LatentFeatures
from clients.exchange.loss_rated import LossRated
from clients.exchange.mutual import Mutual
from clients.exchange.nd_prototypes import NDPrototypes
from clients.exchange.pfedme import PFedMe
from clients.exchange.pooled import Pooled
from clients.exchange.predictions import Predictions
from clients.exchange.protocol import Exchange, Tools
from clients.exchange.prototypes import Prototypes
from clients.exchange.scored_sources import ScoredSources
from clients.exchange.shared_classifier import SharedClassifier
from clients.exchange.token_graph import TokenGraphs
from clients.exchange.two_teachers_proto import TwoTeachersProto

__all__ = [
    "APFL",
    "FCCL",
    "Averaged",
    "ClassLogits",
    "CreamFL",
    "DistilledOnServer",
    "Ditto",
    "Exchange",
    "FCCLPlus",
    "FeaturePredictions",
    "GlobalHeader",
    "GroupKnowledge",
    "Interactive",
    "KnowledgeCache",
    "LatentFeatures",
    "LossRated",
    "Mutual",
    "NDPrototypes",
    "PFedMe",
    "Pooled",
    "Predictions",
    "Prototypes",
    "ScoredSources",
    "SharedClassifier",
    "TokenGraphs",
    "Tools",
    "TwoTeachersProto",
]
