# Everything a newcomer needs, on a machine with only Python 3.11+ and make.
#
#   make demo    the main job on real data: five tables to a served model
#   make test    all tests
#   make lint    style, types, layers
#   make bench   figures, medians and ratios against raw Dask, into benchmarks/RESULTS.md
#   make bench-peers  overhead and stale caches of other tools, most of an hour, into benchmarks/RESULTS-PEERS.md
#   make docs    the reference as web pages, from docstrings, into build/reference
#   make venv    .venv/ with everything that the others need
#   make lock    resolve the newest development dependencies into requirements/dev.lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Byte code is kept: every worker, service and test process starts several times faster with it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test unit lint bench bench-peers docs venv lock format clean system

venv: $(READY)

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlflow_pipes needs Python 3.11 or newer; name one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)
	$(BIN)/python examples/flight_delays.py

# Browser tests need Chromium, others PostgreSQL; where they cannot be installed those are skipped and say so.
system:
	@sh tests/install_system_packages.sh

# Two processes a core: most tests wait for processes and servers of their own. Files in their order, not by how many
# tests they have: the slow ones have few, and would come last of all.
test: $(READY) system
	$(BIN)/python -m pytest -n $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist loadfile --no-loadscope-reorder

unit: $(READY)
	$(BIN)/python -m pytest tests/unit -m "not integration" -n $$(getconf _NPROCESSORS_ONLN)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks

bench-peers: $(READY)
	$(BIN)/python -m benchmarks peers

docs: $(READY)
	$(BIN)/pdoc --docformat google --output-directory build/reference mlflow_pipes mlflow_pipes_steps
	@echo "open build/reference/index.html"

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate \
	  --extra dask --extra demo --extra mlflow --extra pandas --extra polars --extra postgresql --extra serving --extra spark \
	  pyproject.toml requirements/dev.in --output-file requirements/dev.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
