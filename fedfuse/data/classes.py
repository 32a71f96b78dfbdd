"""Which class a label means: by the names of the classes where there are any."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError, DataWarning
from fedfuse.safe_text import visible
from fedfuse.types import IntArray

MOST_CLASSES = 10**6
"""A label above is an id of something else; every number below it would become a class."""
LONGEST = 60
"""Characters of a class's name that a message shows."""

CONVERT = "names, y = numpy.unique(y, return_inverse=True)"
"""How labels of any kind become the integers 0 to C-1."""


def tidy(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Return the names of classes as text, each in one form of Unicode.

    Raises:
        DataError: If a name occurs twice: a label would not tell which one it means.
    """
    found = tuple(unicodedata.normalize("NFC", _text(name)) for name in names)
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(
            f"Two classes of {where} have the same name",
            got=", ".join(map(repr, twice[:5])),
            next_step="Give every class a name of its own.",
        )
    return found


def numbered(labels: Iterable[IntArray], where: str) -> tuple[str, ...]:
    """Return the numbers from 0 to the largest label as names, for classes without any.

    Raises:
        DataError: If there would be too many.
    """
    largest = max((int(part.max(initial=-1)) for part in labels), default=-1)
    if largest >= MOST_CLASSES:
        raise DataError(
            f"A label of {where} is too large to be the number of a class",
            got=largest,
            allowed="0 to C-1, for C classes",
            next_step=f"Number the classes: {CONVERT}.",
        )
    return tuple(map(str, range(largest + 1)))


def unite(
    labels: Sequence[IntArray],
    names: Sequence[tuple[str, ...]],
    places: Sequence[str],
    num_train: int,
) -> tuple[list[IntArray], tuple[str, ...]]:
    """Return the labels of several files in one numbering, and the names of its classes.

    Files may number the classes differently; what counts is the name. The numbering is the first
    file's, then come names that only later training files have.

    Args:
        labels: int64 [n] of each file.
        names: The class names of each; empty for a file without.
        places: The files in words, for messages.
        num_train: How many of them, the first, are training files.

    Raises:
        DataError: If only some files have names, a label has none, or a test label is of a class
            that no training file knows.
    """
    told = [
        (bool(n), place) for n, part, place in zip(names, labels, places, strict=True) if len(part)
    ]
    if not any(has for has, _ in told):
        return list(labels), numbered(labels, places[0])
    if not all(has for has, _ in told):
        bare, named = (next(place for has, place in told if has is want) for want in (False, True))
        raise DataError(
            f"The classes of {named} have names and those of {bare} have none, so they cannot be "
            "told to be numbered alike",
            next_step="Write both with the class names, or both without.",
        )
    names = [tidy(given, place) for given, place in zip(names, places, strict=True)]
    known = {
        name: i for i, name in enumerate(dict.fromkeys(n for g in names[:num_train] for n in g))
    }
    united = []
    for file, (part, given, place) in enumerate(zip(labels, names, places, strict=True)):
        _check_range(part, given, place)
        numbers = np.array([known.get(name, -1) for name in given], dtype=np.int64)
        united.append(numbers[part])
        if file >= num_train and (united[-1] < 0).any():
            raise DataError(
                f"{place} has classes that the training data has not",
                got=", ".join(sorted({given[i] for i in part[united[-1] < 0].tolist()})[:5]),
                allowed=", ".join(list(known)[:20]),
            )
    return united, tuple(known)


def check_classes(raw: RawDataset, *, all_present: bool = True) -> None:
    """Refuse a data set whose classes cannot be what its author meant, before it is dealt out.

    Args:
        raw: The data set.
        all_present: Whether every class must have training samples; not where sites bring them.

    Raises:
        DataError: If there is only one class, classes without names lack training samples, or the
            test pool has a class that the training pool has not.
    """
    train = np.bincount(raw.train.labels, minlength=raw.num_classes)
    present = np.flatnonzero(train)
    if raw.num_classes < 2 or (all_present and len(present) < 2):
        raise DataError(
            f"{raw.name} has a single class, and there is nothing to tell apart",
            got=_named(raw, present),
            allowed="at least 2 classes",
            next_step="Set dataset.path to a folder of class folders, or check its labels.",
        )
    test = 0 * train if raw.test is None else np.bincount(raw.test.labels, minlength=len(train))
    if not all_present:
        train, test = train + test, 0 * test
        if train[0]:
            return
        present = np.flatnonzero(train)
    if only := np.flatnonzero((train == 0) & (test > 0)).tolist():
        raise DataError(
            f"The test pool of {raw.name} has classes of which no sample is for training",
            got=_named(raw, only),
            next_step="Add training samples of them, or remove them from the test pool.",
        )
    empty = np.flatnonzero(train == 0).tolist()
    if not empty:
        return
    has = "has" if len(empty) == 1 else "have"
    told = f"In the data set '{visible(raw.name)}' {_named(raw, empty)} {has} no samples"
    if raw.class_names == tuple(map(str, range(raw.num_classes))):
        first = len(empty) if empty[-1] < present[0] else 0
        raise DataError(
            f"{told}; labels are numbered from 0",
            got=f"{len(present)} different labels from {present[0]} to {present[-1]}",
            allowed=f"0 to {len(present) - 1}",
            next_step=f"Subtract {first} from every label."
            if first
            else f"Number the classes: {CONVERT}.",
        )
    warnings.warn(f"{told}.", DataWarning, stacklevel=3)


def ids_among(own: RawDataset, shared: RawDataset, what: str, *, every: bool = False) -> IntArray:
    """Return the id in another data set of each class, by name, or by number without names.

    Args:
        own: The data set whose classes are to be found.
        shared: The other one.
        what: What is wrong if they are not there, in one sentence.
        every: Whether it must have all classes of the other.

    Raises:
        DataError: If a class is not there.
    """
    number = {name: index for index, name in enumerate(shared.class_names)}
    fits = own.num_classes == shared.num_classes if every else own.num_classes <= len(number)
    if fits and all(name in number for name in own.class_names):
        return np.array([number[name] for name in own.class_names], dtype=np.int64)
    numbers = tuple(map(str, range(max(own.num_classes, shared.num_classes))))
    nameless = numbers[: own.num_classes] == own.class_names
    nameless |= every and numbers[: shared.num_classes] == shared.class_names
    if fits and nameless:
        return np.arange(own.num_classes)
    theirs = set(own.class_names) - set(number)
    missing = [name for name in shared.class_names if name not in own.class_names]
    raise DataError(
        what,
        got=", ".join([name for name in own.class_names if name in theirs][:5])
        or f"all but {', '.join(missing[:5])}",
        allowed=", ".join(shared.class_names[:20]),
    )


def _text(name: object) -> str:
    """Return a name as text that can be written to a file."""
    raw = name if isinstance(name, bytes) else str(name).encode("utf-8", "replace")
    return raw.decode("utf-8", "replace")


def _check_range(labels: IntArray, names: tuple[str, ...], place: str) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
        raise DataError(
            f"{place} has labels outside its {len(names)} classes",
            got=f"labels from {labels.min()} to {labels.max()}",
            allowed=f"0 to {len(names) - 1}",
            next_step="Remove unlabelled samples (often marked -1), or number the classes from 0.",
        )


def _named(raw: RawDataset, classes: Sequence[int] | IntArray) -> str:
    """Return ``class 3 ('owl')`` for one, ``classes 0, 3, ...`` for several."""
    number = [int(i) for i in classes]
    names = [visible(raw.class_names[i], LONGEST) for i in number[:5]]
    shown = [
        str(i) if name == str(i) else f"{i} ('{name}')"
        for i, name in zip(number, names, strict=False)
    ]
    more = ", ..." if len(number) > 5 else ""
    return f"class{'es' if len(number) > 1 else ''} {', '.join(shown)}{more}"
