from dataclasses import dataclass
from fedfuse.train.trainer import LoopTrainer
@dataclass(frozen=True)
class BatchedTrainer(LoopTrainer):
    fallback: object = None
