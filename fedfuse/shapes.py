"""Shape annotations: jaxtyping where it is installed (the tests), plain tensors where it is not.

``fedfuse`` runs on a machine that has only torch and numpy, so jaxtyping cannot be required at
run time; the test suite installs it and checks every annotated function as it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
else:
    try:
        from jaxtyping import Bool, Float, Int
    except ImportError:

        class _Plain:
            """Stand in for a jaxtyping dtype: ``Float[Tensor, "K P C"]`` is ``Tensor``."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Float = Int = _Plain

__all__ = ["Bool", "Float", "Int"]
