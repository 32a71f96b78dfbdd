"""Which split of a data set the name of a file, a folder or a split stands for."""

from __future__ import annotations

import re
from collections.abc import Collection

from fedfuse.errors import DataError

_ROLES = {
    "train": "train", "training": "train", "trn": "train",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "heldout": "test",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val",
    "eval": "val", "evaluation": "val", "devel": "val", "development": "val",
}  # fmt: skip
_GENERIC = frozenset(
    {"set", "data", "dataset", "image", "images", "img", "imgs", "split", "sample", "samples",
     "file", "files", "folder", "of"}
)  # fmt: skip


def role(name: str) -> str | None:
    """Return the split that a folder or file name stands for: train, test, val, or None.

    Case, separators and numbers do not matter: ``Train``, ``TEST``, ``seg_train``, ``dev-set``,
    ``trainingData``, ``test-00000-of-00001``.

    >>> [role(name) for name in ("Training", "seg_test", "valid", "train-00001-of-2", "trains")]
    ['train', 'test', 'val', 'train', None]
    """
    found = {_ROLES[word] for word in _words(name) if word in _ROLES}
    return found.pop() if len(found) == 1 else None


def train_and_held(names: Collection[str], what: str, next_step: str) -> tuple[str, str | None]:
    """Return which splits are for training and, if there is one, for the test pool.

    Without a test split the validation split is the test pool; beside one it is not used.

    Args:
        names: The splits' names.
        what: Whose they are, to begin a message with.
        next_step: What to do where the splits are not clear.

    Raises:
        DataError: If it is not one for each.

    >>> train_and_held(["dev", "train"], "", "")
    ('train', 'dev')
    """
    kinds = {kind: [s for s in names if role(s) == kind] for kind in ("train", "test", "val")}
    train, held = kinds["train"], kinds["test"] or kinds["val"]
    if len(train) != 1 or len(held) > 1:
        raise DataError(
            f"{what} has {'splits that are not clear' if train else 'no train split'}",
            got=f"splits {', '.join(names)}",
            allowed="train, and perhaps test or validation",
            next_step=next_step,
        )
    return train[0], held[0] if held else None


def begins_with_role(name: str) -> bool:
    """Tell whether the first word of a name is that of a split."""
    words = _words(name)
    return bool(words) and words[0] in _ROLES


def only_a_role(name: str) -> bool:
    """Tell whether a name says nothing but which split it is.

    >>> [only_a_role(name) for name in ("Test", "test_set2", "test tube")]
    [True, True, False]
    """
    return role(name) is not None and all(w in _ROLES or w in _GENERIC for w in _words(name))


def _words(name: str) -> list[str]:
    """Return the words of a name in lower case, ``trainingData`` and ``testset`` taken apart."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = []
    for word in re.findall(r"[^\W\d_]+", spaced.lower()):
        parts = [(word[: -len(end)], end) for end in _GENERIC if word.endswith(end)]
        words += next((list(pair) for pair in parts if pair[0] in _ROLES), [word])
    return words
