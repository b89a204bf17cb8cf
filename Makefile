# make demo   sets up everything and runs the main job on embedded Spark
# make lab    runs three tasks, each with a pandas of its own, at the same time on one Spark application
# make test   sets up everything and passes lint, types, layers and the tests
# make ci     the same as make test, and leaves test-results.xml, coverage.xml and cov_html/ for a pipeline to publish
# make matrix proves it on every kind of session and version of PySpark, and writes docs/matrix.md
# make attack tries hostile sources and wheelhouses: by hand, by hypothesis, by atheris where it is installed
# make faults kills, fills, breaks and slows down, and counts what is lost
# make bench  measures side by side with other ways, and draws docs/performance.md; BENCH="--only load --set M" a part
# make lock   resolves the development dependencies anew
# PYTHON=...  picks the interpreter for .venv (3.10 to 3.13)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3.10 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SOURCES := $(shell find src -name '*.py' -o -name '*.json') pyproject.toml README.md

REPORTS := test-results.xml coverage.xml cov_html

.PHONY: demo lab test ci lint types layers unit reports attack faults matrix bench lock clean

demo: .venv/depload
	$(BIN)/depload demo

lab: .venv/depload
	$(BIN)/python examples/task_libraries/run.py

test: lint types layers unit

ci: lint types layers reports

lint: .venv/dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/depload
	$(BIN)/mypy

layers: .venv/depload
	$(BIN)/lint-imports

unit: .venv/depload
	$(BIN)/python -m pytest $(or $(PYTEST),-n 2)

# The same tests. pytest writes all three where tests fail too; none is left from before where it cannot even start.
reports: .venv/depload
	@rm -rf $(REPORTS)
	$(BIN)/python -m pytest --junit-xml=test-results.xml --cov --cov-report=xml --cov-report=html $(or $(PYTEST),-n 2)

attack: .venv/depload
	$(BIN)/python tests/attack/run.py $(ATTACK)

faults: .venv/depload
	$(BIN)/python tests/faults/run.py $(FAULTS)

matrix: .venv/depload
	$(BIN)/python tests/matrix/run.py $(MATRIX)

bench: .venv/depload
	$(BIN)/python -m benchmarks $(BENCH)

# The environment: with uv where there is one, else with the uv of the lock, which pip brings.
.venv/dependencies: requirements-dev.txt
	@if [ -z "$(PYTHON)" ]; then echo "depload needs Python 3.10 to 3.13; give one with PYTHON=..." >&2; exit 1; fi
	@echo "setting up .venv with $(PYTHON) ..."
	@rm -rf .venv
	@if uv=$$(command -v uv); then \
	  uv venv --quiet --python "$$(command -v $(PYTHON))" .venv; \
	else \
	  uv=$(BIN)/uv && $(PYTHON) -m venv .venv && \
	  sed -n '/^uv==/,/[^\\]$$/p' $< >.venv/uv.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
	fi && $$uv pip install --quiet --python $(BIN)/python --require-hashes -r $<
	@touch $@

# The tests run against the built wheel, not against src/.
.venv/depload: .venv/dependencies $(SOURCES)
	@echo "building depload and installing its wheel ..."
	@rm -rf .venv/wheel
	@$(BIN)/uv build --quiet --wheel --out-dir .venv/wheel --python $(BIN)/python .
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --reinstall .venv/wheel/*.whl
	@touch $@

lock: .venv/dependencies
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --upgrade \
	  --custom-compile-command "make lock" --extra cli --extra local --group dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build $(REPORTS) .coverage*
