"""Measure and print the table of bars."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path

from experiments.terminal.garbage import collect_rarely

NAMES = (
    "startup",
    "round",
    "batched",
    "pack",
    "scaling",
    "participants",
    "own_time",
    "features",
    "fusion",
    "methods",
    "mechanisms",
    "merges",
    "requests",
    "checkpoint",
    "engines",
    "revisions",
)
"""In the order in which they run; one that does not exist is left out."""


def main() -> int:
    """Run the benchmarks that are asked for."""
    known = [name for name in NAMES if importlib.util.find_spec(f"{__package__}.{name}")]
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="a folder with MNIST as parquet")
    parser.add_argument("--repeats", type=int, default=3, help="of each side of a ratio (3)")
    parser.add_argument(
        "--old", type=Path, metavar="DIR", help="another revision's tree: revisions"
    )
    parser.add_argument("--quick", action="store_true", help="less work, noisier figures")
    args = parser.parse_args()
    for name in args.names:
        if name not in known:
            parser.error(f"no benchmark '{name}'; there are {', '.join(known)}")
    # Before torch is imported; threads are what the figures depend on most.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from experiments.benchmarks.rows import Row, row, table

    rows: list[Row] = []
    broken = 0
    for name in args.names or known:
        begun = time.perf_counter()
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            found = importlib.import_module(f"{__package__}.{name}").measure(args)
        except Exception as error:  # an hour's figures must not go with it
            traceback.print_exc()
            broken += 1
            reason = f"it broke off: {type(error).__name__}: {str(error).strip()[:200]}"
            found = [row(name, f"{name}_broken", f"benchmark {name}", None, "", note=reason)]
        print(f"  {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        rows += found
        if args.json is not None:
            content = {"machine": machine(), "rows": rows}
            args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    bars = [entry for entry in rows if entry["bar"] is not None]
    others = [entry for entry in rows if entry["bar"] is None]
    print("\n\n".join(table(part) for part in (bars, others) if part))
    return 1 if broken else 0


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    collect_rarely()  # as in every command: what is measured is what a user pays
    sys.exit(main())
