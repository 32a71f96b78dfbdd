"""A federation small enough for whole runs by the dozen."""

TINY = [
    "dataset=synthetic",
    "dataset.image_size=12",
    "dataset.num_train=600",
    "public.size=100",
    "partitioner=iid",
    "evaluation.test_samples=50",
    "num_rounds=2",
    "model=mlp",
]
