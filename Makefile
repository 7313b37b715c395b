# make install   the environment in .venv
# make demo      draw scenes, annotate them, show where the result lies
# make test      lint, types, all tests
# make test-fast lint, types, tests of a minute: for every save

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(wildcard requirements-dev.lock)
DEMO ?= demo

.PHONY: install demo test test-fast lint types tests-off-ray tests-on-ray tests-fast clean

install: $(STAMP)

$(STAMP): pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(LOCK),--constraint $(LOCK)) --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/pad-pipeline demo --output $(DEMO)

# Tests on Ray wait for processes half of their time, so the others run beside them. A thread each,
# as threads that wait for a core that another process has make everything slower.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
AT_ONCE := --no-print-directory --jobs --output-sync=target

test: install
	$(MAKE) $(AT_ONCE) lint types tests-off-ray tests-on-ray

# Without Ray, the networks at toy size and their training, a browser, S3, fuzzing, and the
# examples.
SLOW := browser fuzz gpu models ray s3 scenes tools train verify

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
