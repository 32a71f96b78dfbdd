"""Let the project be built where Flower has left out setup.cfg.

Flower bundles the app without setup.cfg and runs `uv sync` on the bundle before each run. fedfuse
is installed there already, with what it needs, so the bundle asks for nothing.
"""

from pathlib import Path

from setuptools import setup

if Path(__file__).with_name("setup.cfg").exists():
    setup()
else:
    setup(
        description="fedfuse, bundled for Flower",
        classifiers=["Private :: Do Not Upload"],
        install_requires=[],
        extras_require={"bundled": []},
        entry_points={"console_scripts": ["fedfuse = experiments.run:main"]},
        packages=[],
    )
