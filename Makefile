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

# Each process has a share of its own, module after module, and takes of another's when it is done. Three, because tests
# wait for indexes, for Spark to start and for one another: two leave two cores idle for a good part of the time.
SPREAD := -n 3 --dist worksteal
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

unit: .venv/depload .venv/spark.jsa
	$(BIN)/python -m pytest $(or $(PYTEST),$(SPREAD))

# The same tests. pytest writes all three where tests fail too; none is left from before where it cannot even start.
reports: .venv/depload .venv/spark.jsa
	@rm -rf $(REPORTS)
	$(BIN)/python -m pytest --junit-xml=test-results.xml --cov --cov-report=xml --cov-report=html $(or $(PYTEST),$(SPREAD))

attack: .venv/depload
	$(BIN)/python tests/attack/run.py $(ATTACK)

faults: .venv/depload
	$(BIN)/python tests/faults/run.py $(FAULTS)

matrix: .venv/depload
	$(BIN)/python tests/matrix/run.py $(MATRIX)

bench: .venv/depload
	$(BIN)/python -m benchmarks $(BENCH)

# The environment: uv, or else pip, brings the uv of the lock, and that the rest. The index has pyspark as sources, and to
# compress its jars once more takes longer than all the rest. Compiled once here, and not by each process that imports it,
# where PYTHONDONTWRITEBYTECODE is set.
.venv/dependencies: requirements-dev.txt
	@if [ -z "$(PYTHON)" ]; then echo "depload needs Python 3.10 to 3.13; give one with PYTHON=..." >&2; exit 1; fi
	@echo "setting up .venv with $(PYTHON) ..."
	@rm -rf .venv
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --python "$$(command -v $(PYTHON))" .venv && install="uv pip install --python $(BIN)/python"; \
	else \
	  $(PYTHON) -m venv .venv && install="$(BIN)/python -m pip install --disable-pip-version-check"; \
	fi && \
	sed -n '/^uv==/,/[^\\]$$/p' $< >.venv/uv.txt && \
	$$install --quiet --require-hashes -r .venv/uv.txt
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
	  --config-settings-package "pyspark:--build-option=--compression=stored" -r $<
	@touch $@

# The tests run against the built wheel, not against src/.
.venv/depload: .venv/dependencies $(SOURCES)
	@echo "building depload and installing its wheel ..."
	@rm -rf .venv/wheel
	@$(BIN)/uv build --quiet --wheel --out-dir .venv/wheel --python $(BIN)/python .
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --reinstall .venv/wheel/*.whl
	@touch $@

# With it the JVMs of the tests start in two thirds of the time.
.venv/spark.jsa: .venv/dependencies | .venv/depload
	@echo "keeping the classes of Spark ..."
	@$(BIN)/python tests/jvm.py $@

lock: .venv/dependencies
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --upgrade \
	  --custom-compile-command "make lock" --extra cli --extra local --group dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build $(REPORTS) .coverage*
