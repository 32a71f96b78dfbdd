"""What a class or function says of itself, read from its file: nothing is imported, nothing runs.

``show`` and completion are asked often and should answer at once; importing one scorer imports
torch.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

DEEPEST = 4
"""Modules that may pass a name on before it is defined."""
_PAPERS = re.compile(
    r"arXiv[ :]?(\d{4}\.\d{4,5})|arxiv\.org/abs/(\d{4}\.\d{4,5})|([A-Z]\w+ et al\.,? \d{4})"
)


def docstring(target: str) -> str | None:
    """Return the docstring at a dotted path; None if the path leads to no source.

    >>> docstring("fedfuse.partition.Iid").splitlines()[0]
    'Deal all samples out at random, in sizes that differ by at most one.'
    >>> docstring("fedfuse.nothing") is None
    True
    """
    found = _definition(target.split("."), DEEPEST)
    return None if found is None else ast.get_docstring(found) or ""


def papers(text: str) -> list[str]:
    """Return the papers that a text mentions, once each.

    >>> papers("KnFu (arXiv 2403.11892), https://arxiv.org/abs/1905.12022, as Hsu et al. 2019")
    ['arXiv 2403.11892', 'arXiv 1905.12022', 'Hsu et al. 2019']
    """
    flat = " ".join(text.split())
    found = [m[3] or f"arXiv {m[1] or m[2]}" for m in _PAPERS.finditer(flat)]
    return list(dict.fromkeys(found))


def functions(file: Path) -> Iterator[str]:
    """Yield the public functions and classes that a file defines."""
    tree = _parsed(file)
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node.name


def _definition(parts: list[str], deepest: int) -> ast.FunctionDef | ast.ClassDef | None:
    """Return where the last part of a dotted path is defined, following re-exports."""
    *module, name = parts
    tree = _parsed(_file(module)) if module and deepest else None
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    source = [*module[: len(module) - node.level + 1]] if node.level else []
                    return _definition([*source, *node.module.split("."), alias.name], deepest - 1)
    return None


def _parsed(file: Path | None) -> ast.Module | None:
    """Return a file's syntax tree; None if there is no such file or it is no Python."""
    try:
        return None if file is None else ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _file(parts: list[str]) -> Path | None:
    """Return a module's file, found without importing the packages around it."""
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if len(parts) == 1:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for root in spec.submodule_search_locations or ():
        place = Path(root, *parts[1:])
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file():
                return file
    return None
