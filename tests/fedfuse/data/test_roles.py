"""Which split a name stands for."""

from __future__ import annotations

from fedfuse.data.roles import role


def test_roles_of_names():
    roles = {
        "Train": "train", "trainset2": "train", "TRN": "train", "t10k": None, "trains": None,
        "validate": "val", "dev": "val", "device": None, "train_test": None, "Prüfung": None,
        "test-00000-of-00001": "test", "holdout": "test",
    }  # fmt: skip
    assert {name: role(name) for name in roles} == roles
