"""Errors a person can act on: what is wrong, what was got, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FedfuseError(Exception):
    """Any mistake that a user of fedfuse can mend; the command line prints it and exits with 2.

    Args:
        what: The problem in one sentence, naming the parameter or file.
        got: What was found, if naming it helps.
        allowed: What would have been accepted.
        next_step: The one thing to do now.

    >>> print(FedfuseError("num_clients is too large", got="50", allowed="at most 20"))
    num_clients is too large: got 50, allowed: at most 20.
    """

    frames: str = ""
    """Frames of the user's own code that led to it (:mod:`fedfuse.user_code`)."""
    whole: str = ""
    """The traceback that they were taken from."""

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: object = None,
        next_step: str | None = None,
    ) -> None:
        self.what = what
        self.got = got
        self.allowed = allowed
        self.next_step = next_step
        super().__init__(what)

    @property
    def message(self) -> str:
        """What a person is told, in one line; the frames come after it."""
        details = []
        if self.got is not None:
            details.append(f"got {self.got}")
        if self.allowed is not None:
            details.append(f"allowed: {self.allowed}")
        text = f"{self.what}: {', '.join(details)}" if details else self.what
        text = text if text.endswith((".", "?", "!")) else f"{text}."
        return f"{text} {self.next_step}" if self.next_step else text

    def __str__(self) -> str:
        return f"{self.message}\n{self.frames}" if self.frames else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process boundaries (Ray, SuperNodes); the default
        # pickling would call __init__ with the rendered message only.
        state = {k: v for k, v in self.__dict__.items() if k != "what"}
        return (_rebuild, (type(self), self.what, state))


def _rebuild(cls: type[FedfuseError], what: str, state: dict[str, object]) -> FedfuseError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.what = what
    error.__dict__.update(state)
    return error


class ParameterError(FedfuseError):
    """A hyperparameter is out of its range or has the wrong type.

    >>> print(ParameterError("dirichlet", "alpha", -1, "a number above 0"))
    The 'alpha' parameter of dirichlet is not valid: got -1, allowed: a number above 0.
    """

    def __init__(
        self, owner: str, name: str, got: object, allowed: str, *, next_step: str | None = None
    ) -> None:
        self.owner = owner
        self.name = name
        super().__init__(
            f"The '{name}' parameter of {owner} is not valid",
            got=repr(got),
            allowed=allowed,
            next_step=next_step,
        )


class DataError(FedfuseError):
    """A data set is missing, malformed or too small for what was asked of it."""


class PartitionError(FedfuseError):
    """A partitioner overlapped, left a client empty or returned something else than indices."""


class ModelError(FedfuseError):
    """A model cannot be built or its output does not have the shape [batch, classes]."""


class KnowledgeError(FedfuseError):
    """An exchanged payload does not hold what it promised (shape, dtype, ids, finite values).

    ``client_ids`` names the clients whose numbers are to blame, if they can be told apart.
    """

    client_ids: tuple[int, ...] = ()


class ConfigError(FedfuseError):
    """The configuration asks for something that does not exist or cannot be built."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the known name nearest to ``word``, or None if nothing is near.

    >>> did_you_mean("dirichelt", ["iid", "dirichlet"])
    'dirichlet'
    """
    return next(iter(nearest(word, known, 1)), None)


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that are near to ``word``, the nearest first."""
    return difflib.get_close_matches(word, sorted(known), n=most, cutoff=0.6)


def require(ok: bool, owner: str, name: str, got: object, allowed: str) -> None:
    """Raise :class:`ParameterError` unless ``ok``.

    Args:
        ok: The condition that a valid value meets (NaN must fail it, so write ``x > 0``
            and not ``not x <= 0``).
        owner: The part the parameter belongs to, as the user knows it.
        name: The parameter's name.
        got: The value that was given.
        allowed: The valid range in words.

    Raises:
        ParameterError: If ``ok`` is false.
    """
    if not ok:
        raise ParameterError(owner, name, got, allowed)


class DataWarning(UserWarning):
    """Something about the data that a reader of the results should know."""
