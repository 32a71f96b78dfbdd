"""Run the sections of the kit, each in a process of its own, and write down what they find."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from experiments.benchmarks.rows import Row, row, table

MARK = "ROW "
"""What begins a line in which a section says what it found."""


def main() -> int:
    """Run the kit; return 1 if a section broke off or a test failed."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.gpu", description=__doc__
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the findings")
    parser.add_argument("--minutes", type=float, default=8, help="for all sections together (8)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a dry run")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that it works")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds (3)")
    parser.add_argument("--only", nargs="*", metavar="SECTION", help="these sections alone")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    args = parser.parse_args()
    from experiments.benchmarks.gpu.sections import SECTIONS

    if args.section:
        import torch

        [chosen] = [section for section in SECTIONS if section.name == args.section]
        asked = {"device": torch.device(args.device), "tiny": args.tiny, "repeats": args.repeats}
        for found in chosen.measure(**asked):
            print(MARK + json.dumps(found), flush=True)
        return 0
    sections = [s for s in SECTIONS if not args.only or s.name in args.only]
    if unknown := set(args.only or ()) - {section.name for section in sections}:
        known = ", ".join(section.name for section in SECTIONS)
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {known}")
    args.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    rows: list[Row] = []
    about = machine(args.device)
    print(json.dumps(about), flush=True)
    for section in sections:
        limit = end - time.monotonic()
        if not args.tiny:  # which says nothing about speed
            limit = min(section.seconds, limit)
        if limit < 5:
            rows.append(_broken(section.name, "no time was left for it"))
        else:
            for found in _run(section.name, args, limit):
                print(table([found]).splitlines()[1], flush=True)
                rows.append(found)
                _write(args.out, about, rows)
        _write(args.out, about, rows)
    print(f"\n{table(rows)}")
    return int(any(entry["key"].startswith(("broken_", "failed_")) for entry in rows))


def machine(device: str) -> dict[str, object]:
    """Return what the figures were measured on."""
    import platform

    import torch

    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _run(name: str, args: argparse.Namespace, limit: float) -> Iterator[Row]:
    """Yield what a section finds, as it finds it; end it when its time is over."""
    command = [
        sys.executable, "-m", "experiments.benchmarks.gpu", "--section", name,
        "--out", str(args.out), "--device", args.device, "--repeats", str(args.repeats),
        *(["--tiny"] if args.tiny else []),
    ]  # fmt: skip
    end = time.monotonic() + limit
    with (args.out / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout, end):
                if line.startswith(MARK):
                    yield json.loads(line.removeprefix(MARK))
                else:
                    log.write(line)
                    log.flush()
            if process.wait(timeout=max(1, end - time.monotonic())):
                yield _broken(name, f"exit code {process.returncode}; see {name}.log")
        except (TimeoutError, subprocess.TimeoutExpired):
            yield _broken(name, f"ended after its {limit:.0f} s; see {name}.log")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()


def _lines(stream: IO[str], end: float) -> Iterator[str]:
    """Yield the lines of a stream.

    Raises:
        TimeoutError: If the next one is not there in time.
    """
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if line is None:
            return
        yield line


def _broken(name: str, why: str) -> Row:
    return row("gpu", f"broken_{name}", f"section {name}", None, "", note=why)


def _write(out: Path, about: dict[str, object], rows: list[Row]) -> None:
    """Write everything found so far: for programs, and for people."""
    whole = json.dumps({"machine": about, "rows": rows}, indent=1)
    (out / "gpu.json").write_text(whole + "\n", encoding="utf-8")
    (out / "gpu.txt").write_text(f"{json.dumps(about)}\n\n{table(rows)}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
