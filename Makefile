# make demo    one job in one process and on a Dask cluster: the same bytes, verified, with a report
# make test    the fast tests, the slow ones, and those of the jobs inside other programs
# make lint    ruff, mypy --strict and import-linter
# make docs    the documentation site, in build/docs/index.html
# make bench   the algorithm alone, and whole commands against other programs, in about three minutes
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-dev
# The tests of a file run in the same process and share their fixtures. `test-hosts` runs the others. Fast tests wait
# for other processes at times, so three of them share two cores.
SIDE_BY_SIDE := --dist loadfile --ignore tests/hosts
# The tests start Python hundreds of times: keep the compiled modules.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-fast test-slow test-hosts test-oldest lint docs bench format clean axe-core d3-zoom

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/dask-dedup demo --output demo --overwrite

test: test-fast test-slow test-hosts

test-fast: $(READY)
	$(BIN)/python -m pytest -q -m "not slow and not real_data" -n 3 $(SIDE_BY_SIDE)

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m "slow or real_data or hypothesis" --hypothesis-profile thorough -n 2 $(SIDE_BY_SIDE)

# The jobs inside CCP-EM Pipeliner, CryoSPARC and copick, whose libraries are large or exclude each other. CryoSPARC has
# two: the library must be of the version of the instance.
test-hosts:
	test -x .venv-hosts/bin/python || $(PYTHON) -m venv .venv-hosts
	.venv-hosts/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test,copick,cryosparc,pipeliner]"
	.venv-hosts/bin/python -m pytest -q tests/hosts --ignore tests/hosts/test_cryosparc.py "tests/test_docs.py::test_the_commands_of_a_page_run[docs/guides/copick.md]"
	.venv-hosts/bin/python -m pytest -q tests/hosts/test_cryosparc.py
	test -x .venv-cryosparc-4.7/bin/python || $(PYTHON) -m venv .venv-cryosparc-4.7
	.venv-cryosparc-4.7/bin/python -m pip install --quiet --disable-pip-version-check --editable . "cryosparc-tools==4.7.*" hypothesis pytest pytest-timeout
	.venv-cryosparc-4.7/bin/python -m pytest -q tests/hosts/test_cryosparc.py

# The lower bounds of pyproject.toml, without the libraries for clusters, object stores and lakes.
test-oldest:
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt --editable ".[test]"
	.venv-oldest/bin/python -m pytest -q -m "not slow" -n 3 $(SIDE_BY_SIDE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Warnings are errors. Nothing is fetched.
docs: $(READY)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html --doctree-dir build/doctrees docs build/docs

# The scripts of pandas and Dask take longer than all others together: `python -m benchmarks.compare` has them, too.
BENCH := dask-dedup,dask-dedup --no-report,dask-dedup --duplicates-only,cp -r,copy_zstd,copy_default,copy_tuned,polars_script
bench: $(READY)
	mkdir -p build/bench
	$(BIN)/python -m pytest -q benchmarks/bench_kernel.py --benchmark-only --benchmark-columns=min,median,rounds
	for case in clustered random; do \
		$(BIN)/python -m benchmarks.compare $$case --rows 1_000_000 --repeats 3 --only "$(BENCH)" --scratch build/bench || exit 1; \
	done

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-cryosparc-4.7 .venv-hosts .venv-oldest build demo

# For the test of accessibility, which is skipped without it.
axe-core:
	npm ci --ignore-scripts --no-audit --no-fund --prefix tests/accessibility

# Rebuild the part of the report's script that is vendored. A test compares the bytes.
D3_ZOOM := dask_dedup/results/report/vendor
d3-zoom:
	npm ci --ignore-scripts --no-audit --no-fund --prefix $(D3_ZOOM)
	npm run --silent --prefix $(D3_ZOOM) build
	rm -rf $(D3_ZOOM)/node_modules
