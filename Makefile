# `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
RESULTS ?=
STUDY ?=
ARM ?=
# nproc counts the cores that may be used here, fewer than there are in a container; OMP_NUM_THREADS is about one run.
JOBS ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
ARGS ?=
MINUTES ?= 10

# As one word of the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'
run := $(call quoted,$(VENV)/bin/python)
# Runs of one thread side by side get more done than one run on all cores.
parallel := $(if $(filter-out 1,$(JOBS)),-m hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS))
beside := $(if $(RESULTS),$(call quoted,runtime.results="$(subst ",\",$(RESULTS))"))
# Where the runs of these studies are, if not among the recorded ones.
place = $(or $(RESULTS),$(if $(filter-out $(recorded),$(studies)),results/local))
recorded := stability $(filter-out stability,$(basename $(notdir $(shell grep -l 'results: results' conf/study/*.yaml))))
usual := $(shell sed -n 's/^ *connection: //p' conf/study/quick.yaml)
comma := ,
define newline


endef

.DEFAULT_GOAL := help
.PHONY: help setup data quick try study reproduce reproduce-all bench gpu report verify notebooks test torture lint clean
.SUFFIXES:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  PYTHON=python3.12     the Python that setup builds on, 3.11 to 3.13 (default: $(PYTHON))'
	@echo '  VENV=folder           the environment (default: $(VENV))'
	@echo '  ARGS="train.steps=50" more overrides for what trains, and for bench and torture'
	@echo '  JOBS=1                how many runs, or files of tests, go on side by side; 1 on a GPU (default: $(JOBS))'
	@echo '  MINUTES=10            how long a GPU is lent to make gpu (default: $(MINUTES))'
	@echo '  RESULTS=results/local where runs go, to train anew beside the recorded ones (quick goes there anyway)'

setup: ## make the environment with pinned versions, bring it up to date, or mend it
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: there is no $(PYTHON) here; name a Python of 3.11 to 3.13 with PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) experiments/environment.py $(call quoted,$(VENV))

data: setup ## fetch enwik8 (36 MB) and verify it
	$(run) -m mhc_repro.command_line.cli data

# What each of these trains and then shows: the runs beside the recorded ones, or all that is recorded.
quick: studies := quick## train baseline, HC and mHC in minutes; show the table and where the figures are
try: studies := $(if $(ARM),quick)## train the arm ARM= (a file in conf/connection) beside those three, and show them
study: studies := $(STUDY)## train the study STUDY= (a file in conf/study), or what is left of it, and show it
reproduce: studies := stability## train the study of the reference size, after a plan with times; then the report
reproduce-all: studies := $(recorded)## train every recorded study (days); then the report
try: added := $(call quoted,connection=$(usual)$(if $(filter-out $(subst $(comma), ,$(usual)),$(ARM)),$(comma)$(ARM)))
try: missing := an arm with ARM=, one of: $(basename $(notdir $(wildcard conf/connection/*.yaml)))
study: missing := a study with STUDY=, one of: $(basename $(notdir $(wildcard conf/study/*.yaml)))
quick try: parallel := # one bar at a time, and no question of who has the GPU
quick try study reproduce reproduce-all: setup
	@test -n "$(studies)" || { echo "error: name $(missing)" >&2; exit 2; }
	$(foreach study,$(studies),$(run) experiments/train.py $(parallel) study=$(study) $(added) $(beside) $(ARGS)$(newline))
	$(run) experiments/report.py $(if $(place),--root $(call quoted,$(place)) $(if $(word 2,$(studies)),,--study $(studies) --console))

bench: setup ## measure what each arm costs beside the baseline (minutes, on an idle machine); then the report
	$(run) experiments/bench.py --save $(ARGS)
	$(run) experiments/report.py

report: setup ## rebuild every page, table, figure and number from results/
	$(run) experiments/report.py

verify: setup ## rebuild them elsewhere and compare every byte
	$(run) experiments/report.py --verify

gpu: ## spend MINUTES of a GPU, with or without an environment: check, bench, train, pack what finished
	$(if $(wildcard $(VENV)/bin/python),$(run),$(PYTHON)) experiments/gpu.py --minutes $(MINUTES) $(ARGS)

notebooks: setup ## execute the notebooks anew
	$(run) experiments/notebooks.py

test: setup ## run the tests, JOBS files at a time
	$(run) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

torture: setup ## kill runs, fill disks, damage files, type nonsense: is anything lost or believed? (up to 15 minutes)
	$(run) tests/torture --record results/torture.json $(ARGS)
	$(run) experiments/report.py

lint: setup ## check style, format and types
	$(run) -m ruff check .
	$(run) -m ruff format --check .
	$(run) -m mypy

clean: ## remove caches and results/local, never recorded results
	rm -rf results/local .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path $(call quoted,./$(VENV)) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
