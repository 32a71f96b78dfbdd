"""What to do with files of a kind that is not read: how they become one that is."""

from __future__ import annotations

SAVE = "numpy.savez(path, x_train=x, y_train=y)"
_TABLE = f"Read it with pandas and write {SAVE} for dataset=npz."
_CSV = "A table is read with dataset=table."
_UNPICKLE = f"Unpickle it where you trust it and write {SAVE} for dataset=npz."
_TORCH = f"Load it with torch where you trust it and write {SAVE} for dataset=npz."
_IDX = "Set dataset=idx and dataset.path to the folder that holds it."
_HDF5 = f"Read it with h5py and write {SAVE} for dataset=npz."
_BY_END = {
    "ubyte": _IDX, "ubyte.gz": _IDX,
    ".arrow": "Set dataset=hub and dataset.path to the folder that datasets.save_to_disk wrote, "
    "with dataset_dict.json or dataset_info.json in it.",
    ".csv": _CSV, ".tsv": _CSV, ".csv.gz": _TABLE, ".txt": _TABLE, ".xlsx": _TABLE,
    ".json": _TABLE, ".jsonl": _TABLE,
    ".npy": f"It holds one array; write inputs and labels together: {SAVE}.",
    ".npz": "Set dataset=npz and dataset.path to the file.",
    ".pkl": _UNPICKLE, ".pickle": _UNPICKLE, ".pt": _TORCH, ".pth": _TORCH,
    ".mat": f"Load it with scipy.io.loadmat and write {SAVE} for dataset=npz.",
    ".h5": _HDF5, ".hdf5": _HDF5,
    ".parquet": "Set dataset=hub and dataset.path to the folder that holds it.",
    ".zip": "Unpack it, and set dataset.path to what was in it.",
    ".tar": "Unpack it, and set dataset.path to what was in it.",
    ".gz": "Unpack it, and set dataset.path to what was in it.",
    ".png": "Set dataset=image_folder.", ".jpg": "Set dataset=image_folder.",
}  # fmt: skip
"""Advice by the end of a file's name, the better known kinds first."""


def conversion(*names: str) -> str | None:
    """Return what to do with files of these names, or None if nothing is known.

    >>> conversion("dataset_dict.json", "data-00000-of-00001.arrow")[:36]
    'Set dataset=hub and dataset.path to '
    """
    lowered = [name.lower() for name in names]
    found = (advice for end, advice in _BY_END.items() if any(n.endswith(end) for n in lowered))
    return next(found, None)
