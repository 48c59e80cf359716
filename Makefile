# make demo    simulate two pickers, remove the duplicates, say where the result lies
# make test    the fast tests, then the slow ones
# make lint    ruff, mypy --strict and import-linter
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-dev
# Two processes; the tests of a file stay together, so that they share what they set up.
SIDE_BY_SIDE := -n 2 --dist loadfile
# The tests start Python some hundred times: what is compiled is kept.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-fast test-slow test-oldest lint format clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/dask-dedup demo --output demo --overwrite

test: test-fast test-slow

test-fast: $(READY)
	$(BIN)/python -m pytest -q -m "not slow" $(SIDE_BY_SIDE)

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow $(SIDE_BY_SIDE)

# The lower bounds that pyproject.toml promises, without the libraries of clusters, object stores and lakes.
test-oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt --editable ".[test]"
	.venv-oldest/bin/python -m pytest -q -m "not slow" $(SIDE_BY_SIDE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-oldest demo
