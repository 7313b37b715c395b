# make demo      draw scenes, annotate them, show where the result lies
# make install   the environment of developers in .venv
# make test      lint, types, all tests
# make test-fast lint, types, tests of a minute: for every save

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVELOPERS := $(VENV)/.installed
USERS := $(VENV)/.installed-for-users
LOCK := $(wildcard requirements-dev.lock)
DEMO ?= demo

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCKED := $(PIP) $(if $(LOCK),--constraint $(LOCK)) --editable

.PHONY: install demo test test-fast lint types tests-off-ray tests-on-ray tests-fast clean

install: $(DEVELOPERS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(DEVELOPERS): pyproject.toml $(LOCK) | $(BIN)/python
	$(LOCKED) '.[dev]'
	touch $@

# The demo and the viewer of its result, without the tools of the tests.
$(USERS): pyproject.toml $(LOCK) | $(BIN)/python
	$(LOCKED) '.[view]'
	touch $@

demo: $(if $(wildcard $(DEVELOPERS)),$(DEVELOPERS),$(USERS))
	$(BIN)/pad-pipeline demo --output $(DEMO)

# Tests on Ray wait for processes half of their time, so the others run beside them. A thread each,
# as threads that wait for a core that another process has make everything slower.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
AT_ONCE := --no-print-directory --jobs --output-sync=target

test: install
	$(MAKE) $(AT_ONCE) lint types tests-off-ray tests-on-ray

# Without Ray, the networks at toy size and their training, a browser, S3, fuzzing, and the
# examples.
SLOW := benchmarks browser fuzz gpu models ray s3 scenes tools train verify

test-fast: install
	$(MAKE) $(AT_ONCE) lint types tests-fast

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/pyright --pythonpath $(BIN)/python

tests-off-ray:
	$(PYTEST) -m "not ray"

tests-on-ray:
	$(PYTEST) -m ray tests/ray

tests-fast:
	$(PYTEST) -m "not ray" -n 2 $(SLOW:%=--ignore=tests/%) --ignore=tests/test_examples.py

clean:
	rm -rf $(VENV) $(DEMO)
