# make install   the environment in .venv
# make demo      draw scenes, annotate them, show where the result lies
# make test      lint, types, tests

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(wildcard requirements-dev.lock)
DEMO ?= demo

.PHONY: install demo test clean

install: $(STAMP)

$(STAMP): pyproject.toml $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(LOCK),--constraint $(LOCK)) --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/pad-pipeline demo --output $(DEMO)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not ray" -n 2
	$(BIN)/python -m pytest -m ray

clean:
	rm -rf $(VENV) $(DEMO)
