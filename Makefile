# make run · make map-demo · make test-fast · make test · make test-all · make lint · make docs · make bench · make help
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
DEPS   := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run map-demo test test-fast test-all lint docs notebooks bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.core ## set up, then run the main job: fuse or train alone, on real digits
	@$(BIN)/fedfuse method=knfu_adjusted

map-demo: $(VENV)/.core ## set up, then draw where fusion beats local training (a few minutes; goes on if stopped)
	@$(BIN)/fedfuse-map map.samples=[50,100,250] map.alpha=[0.1,0.5,5] map.methods=[local,knfu] \
	  map.seeds=[0,1,2] map.dir=maps/demo num_rounds=5

# Workers with a thread each: with two each they wait for one another, twice as long. A file stays
# with one worker, which shares what its tests share; tests/conftest.py puts the longest first. Of
# three workers on two cores one mostly waits for Ray, or for the processes of a deployment. Without
# the bytecode of the last call, each worker and each process that a test starts compiles anew.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -q --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev ## the tests for every edit: no whole run, no process
	@$(PYTEST) -n 2 --fast tests

test: $(VENV)/.dev ## set up, then run every test; of long sweeps a part
	@$(PYTEST) -n 3 $(ARGS)

test-all: ## every test, every case
	@$(MAKE) test ARGS=--all

lint: $(VENV)/.dev ## ruff, mypy --strict and the layer contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(VENV)/.dev ## build the documentation into site/, strict; open site/index.html
	@NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build -q

notebooks: $(VENV)/.dev ## run the notebooks of examples/ and write what they show into them
	@$(BIN)/python docs/theme/notebooks.py

bench: $(VENV)/.dev ## measure every bar: start-up, the round against a bare PyTorch loop, fusion, engines
	@$(BIN)/python -m experiments.benchmarks $(ARGS)

clean: ## remove the environment and every cache
	rm -rf $(VENV) build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python $(DEPS)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@
