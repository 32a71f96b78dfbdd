"""Where in a folder of images the class folders are: below train/ and test/, or in a wrapper."""

from __future__ import annotations

from pathlib import Path

from fedfuse.data.files import entries, walk
from fedfuse.data.roles import only_a_role, role
from fedfuse.errors import DataError

SUFFIXES = frozenset(
    (
        ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
        ".ppm", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
LAYOUT = "one folder of images per class, perhaps under train/ and test/"


def split_levels(root: Path) -> list[Path]:
    """Return the folders whose folders are the classes: of the training split, and of the test.

    Raises:
        DataError: If the folder can be understood in two ways.
    """
    root = _unwrapped(root, keep_splits=True)
    folders = subfolders(root)
    flat = [f for f in folders if only_a_role(f.name) and holds_images(f)]
    deep = [f for f in folders if role(f.name) is not None and not holds_images(f)]
    # A class may have such a word in its name: a train station is no split, nor is a test tube.
    if not any(only_a_role(f.name) for f in deep) and len({role(f.name) for f in deep}) < 2:
        deep = []
    if flat and (deep or len(flat) == len(folders) or len({role(f.name) for f in flat}) > 1):
        raise DataError(
            f"{flat[0]} holds images without a class, where class folders should be",
            allowed=LAYOUT,
            next_step="Sort its images into one folder per class, or move it away.",
        )
    if not deep:
        _refuse_inner_splits(folders)
        return [root]
    if others := [f for f in folders if f not in deep and _holds_images_anywhere(f, root)]:
        raise DataError(
            f"{root} holds splits beside other folders of images",
            got=f"{_names(deep)} beside {_names(others)}",
            allowed=LAYOUT,
            next_step="Move one kind away, or set dataset.path to a folder that has one.",
        )
    by_role = {kind: [f for f in deep if role(f.name) == kind] for kind in ("train", "test", "val")}
    test = by_role["test"] or by_role["val"]
    if len(by_role["train"]) != 1 or len(test) > 1:
        raise DataError(
            f"It is not clear which folder of {root} is the training and which the test split",
            got=_names(deep),
            allowed="one training split, and at most one test or validation split",
            next_step="Rename them to train and test, or move the others away.",
        )
    return [_unwrapped(level, keep_splits=False) for level in (*by_role["train"], *test)]


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, and those that links lead to, sorted, without hidden ones.

    Raises:
        DataError: If a link leads nowhere.
    """
    found = []
    for entry in entries(folder):
        if entry.is_dir():
            found.append(entry)
        elif entry.is_symlink() and not entry.exists():
            raise DataError(f"The link {entry} leads nowhere", next_step="Mend or remove it.")
    return found


def is_image_name(name: str) -> bool:
    """Tell whether a file's name is that of an image to be read."""
    return Path(name).suffix.lower() in SUFFIXES


def holds_images(folder: Path) -> bool:
    """Tell whether images lie directly in a folder."""
    return any(is_image_name(entry.name) and not entry.is_dir() for entry in entries(folder))


def _holds_images_anywhere(folder: Path, root: Path) -> bool:
    return any(is_image_name(file.name) for file in walk(folder, root))


def _unwrapped(folder: Path, *, keep_splits: bool) -> Path:
    """Return the folder within, where it is all there is and holds folders only."""
    seen = set()
    current = folder
    while current.resolve() not in seen:
        seen.add(current.resolve())
        inner = subfolders(current)
        if len(inner) != 1 or holds_images(current) or (keep_splits and only_a_role(inner[0].name)):
            return current
        if holds_images(inner[0]) or not subfolders(inner[0]):
            return current
        current = inner[0]
    return folder  # a link leads in a circle


def _refuse_inner_splits(classes: list[Path]) -> None:
    for folder in classes:
        inner = [f for f in subfolders(folder) if only_a_role(f.name)]
        if inner:
            raise DataError(
                f"The class folder {folder} is split inside",
                got=_names(inner),
                allowed=LAYOUT,
                next_step="Put the class folders into folders train and test, or set dataset.path "
                "to the folder that holds those.",
            )


def _names(folders: list[Path]) -> str:
    return ", ".join(f.name for f in folders[:5])
