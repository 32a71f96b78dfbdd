"""Run the notebooks of examples/ and write what they show into them: ``make notebooks``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

EXAMPLES = Path(__file__).parents[2] / "examples"


def executed(file: Path, before: str = "") -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a fresh kernel, started in an empty folder.

    Args:
        file: The notebook.
        before: Code that the kernel runs first, which the notebook does not show.

    Raises:
        CellExecutionError: If a cell fails.
    """
    book = nbformat.read(file, as_version=4)
    book.cells.insert(0, nbformat.v4.new_code_cell(before))
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        sockets = {
            "transport": "ipc",
            "ip": str(Path(folder) / "kernel"),
        }  # no port, not even a local one
        config = Config({"KernelManager": sockets})
        NotebookClient(
            book,
            timeout=600,
            startup_timeout=300,
            coalesce_streams=True,
            resources=resources,
            config=config,
        ).execute()
    del book.cells[0]
    for cell in book.cells:
        cell.metadata.clear()  # when each cell ran
    return book


if __name__ == "__main__":
    for file in sorted(EXAMPLES.glob("*.ipynb")):
        nbformat.write(executed(file), file)
