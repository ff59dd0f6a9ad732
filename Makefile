# make train   set up, then train the demonstration without and with SPA
# make test    set up, then run every notebook and every test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help setup train test bench export

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile
	@echo "make setup   only the virtual environment, in $(VENV)"
	@echo "make bench   the time of OmAP, of the SPA branch in a training step, and of the encoders"
	@echo "make export  after editing a notebook: write spa_lib from it, and clean it"

setup: $(VENV)/.installed

$(VENV)/.installed: settings.ini setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/papermill nbs/04_train.ipynb -p encoder ast
	$(BIN)/spa_runs

test: setup
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests

bench: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/omap.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/step.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/encoders.py

export: setup
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
