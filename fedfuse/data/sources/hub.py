"""Any classification set of the Hugging Face hub by name, or a local copy: images or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.files import place
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.data.roles import train_and_held
from fedfuse.data.sources.idx import has_idx, idx
from fedfuse.data.sources.parquet import COPY, first_schema, parquet
from fedfuse.data.sources.text import text
from fedfuse.data.tables import decode_tables, find_columns
from fedfuse.data.texts import decode_texts, find_texts, is_of_texts
from fedfuse.data.words import WORDS, check_words
from fedfuse.errors import DataError, require


def hub(
    name: str | None = None,
    path: str | Path | None = None,
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    image_size: int | None = None,
    text_column: str | None = None,
    words: int = WORDS,
) -> RawDataset:
    """Return a data set of the hub, downloaded on first use, or its copy in a local folder.

    It is one of images where a column holds images, else of texts, read as
    :func:`fedfuse.data.sources.text.text` does. Without a test split the
    validation split is the test pool.

    Args:
        name: The set's id on the hub, such as ``ylecun/mnist``.
        path: A folder with its parquet files, one that ``datasets.save_to_disk`` wrote, or one of
            IDX files (:func:`fedfuse.data.sources.idx.idx`); then nothing is downloaded and the
            hub's libraries are not needed.
        config: The set's configuration, where it has several.
        revision: A branch, tag or commit of the set; None for the newest.
        image_column: Column of images; None to find it.
        label_column: Column of integer class ids (of texts also of names); None to find it.
        image_size: Stretch all images to this height and width; None to keep their size.
        text_column: Column of texts; None to find it where no column holds images.
        words: How many words of a text count at most.

    Raises:
        DataError: If the set cannot be loaded or is no such set.
    """
    require(bool(name or path), "hub", "name", name, "a data set's id on the hub, or set path")
    short = name.rsplit("/", 1)[-1] if name else None
    require(
        None in (image_column, text_column), "hub", "text_column", text_column,
        "null beside image_column",
    )  # fmt: skip
    check_words("hub", words)
    if path is not None:
        if (folder := place(path, COPY)).is_dir() and has_idx(folder):
            return idx(path, short, image_size)
        if is_of_texts(first_schema(path), image_column, text_column):
            return text(path, short, text_column, label_column, words)
        return parquet(path, short, image_column, label_column, image_size)
    where = f"{name} on the hub"
    splits = _load(str(name), config, revision)
    train = splits["train"]
    schema = train.features.arrow_schema
    texts = is_of_texts(schema, image_column, text_column)
    columns = (find_texts if texts else find_columns)(
        schema, where, text_column if texts else image_column, label_column
    )
    parameters = {
        "columns": columns,
        **({"words": words} if texts else {"image_size": image_size}),
        # A set that lives in memory has no files; its own fingerprint stands for them.
        "splits": {split: part._fingerprint for split, part in splits.items()},
    }
    files = {
        f"{split}/{number}": Path(file["filename"])
        for split, part in splits.items()
        for number, file in enumerate(part.cache_files)
    }

    def decode() -> Decoded:
        tables = {
            split: {
                f"the {split} split of {where}": part.select_columns(list(columns)).with_format(
                    "arrow"
                )[:]
            }
            for split, part in splits.items()
        }
        if texts:
            flat = {place: table for part in tables.values() for place, table in part.items()}
            return decode_texts(flat, 1, *columns, words)
        return decode_tables(tables, columns, where, image_size, read_files=True)

    return cached(str(short), cache_key("hub", parameters, files), decode)


def _load(name: str, config: str | None, revision: str | None) -> dict[str, Any]:
    """Return the set's ``train`` and, if there is one, ``test`` split."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"The data set {name} comes from the Hugging Face hub, and its library is missing",
            next_step="Run: pip install -c constraints.txt -e '.[hub]' (or set dataset.path to a "
            "local copy).",
        ) from error
    try:
        found = datasets.load_dataset(name, config, revision=revision)
    # The network, the hub and dozens of file formats each fail in their own way.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise DataError(
            f"The data set {name} cannot be loaded from the Hugging Face hub",
            got=f"{type(error).__name__}: {first}" if first else type(error).__name__,
            next_step="Check its name and the network, or set dataset.path to a folder with its "
            "parquet files.",
        ) from error
    train, held = train_and_held(
        found,
        f"The data set {name}",
        "Save what you mean as train.parquet and test.parquet, and set dataset.path.",
    )
    return {"train": found[train]} | ({"test": found[held]} if held else {})
