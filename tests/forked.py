"""A command in a process of its own that need not start Python and import everything anew."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import torch


def command(words: list[str], cwd: Path) -> CompletedProcess[str]:
    """Run ``fedfuse ...`` or ``python -c ...`` in a fork of this process, in the folder ``cwd``."""
    torch.set_num_threads(1)  # a fork has none of the threads that its parent may have started
    program, *arguments = words
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                code = _child(program, arguments, cwd, out.fileno(), err.fileno())
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return CompletedProcess(words, code, out.read(), err.read())


def _child(program: str, arguments: list[str], cwd: Path, out: int, err: int) -> int:
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = [program, *arguments]
    os.chdir(cwd)
    for file in cwd.glob("*.py"):  # another test's module of this name is not this folder's
        sys.modules.pop(file.stem, None)
    try:
        return _run(program, arguments) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _run(program: str, arguments: list[str]) -> Any:
    if program == "python":
        sys.path.insert(0, "")
        exec(arguments[arguments.index("-c") + 1], {"__name__": "__main__"})
        return 0
    (script,) = entry_points(group="console_scripts", name=program)
    return script.load()()
