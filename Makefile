# `make repro` does everything; `make` says what else there is.
PYTHON ?= python3
PORT ?= 5000
VENV := .venv
PY := $(VENV)/bin/python
DONE := $(VENV)/complete
FLOWER := .venv-flower

# Stages call `python`: theirs is the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro test ui export tune tune-apply bench torture lint clean

help:  ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' Makefile

setup: $(DONE)  ## Make .venv with the exact packages of requirements.lock (once)

repro: $(DONE)  ## Run what is out of date: data, partitions, trainings, report; print the summary
	@$(PY) -m dvc repro
	@$(PY) -m pipeline.summary

test: $(DONE)  ## Run all tests
	@$(PY) -m pytest

ui: $(DONE)  ## Bring results into MLflow and show its pages (PORT=5000)
	@$(PY) -m pipeline.ui --port $(PORT)

export: $(DONE)  ## Write a device's model (EXPERIMENT=digits ALGORITHM=fedmpq ALPHA=0.5 BUDGET=4 CALIBRATE=128 REGISTER=1)
	@$(PY) -m pipeline.export --experiment $(or $(EXPERIMENT),digits) --algorithm $(or $(ALGORITHM),fedmpq) \
		--alpha $(or $(ALPHA),0.5) $(if $(CLIENT),--client $(CLIENT),--budget $(or $(BUDGET),4)) \
		$(if $(SEED),--seed $(SEED)) $(if $(CALIBRATE),--calibrate $(CALIBRATE)) $(if $(DIFFERING),--differing $(DIFFERING)) \
		$(if $(FORMAT),--format $(FORMAT)) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) \
		$(if $(REGISTER),--register)

tune: $(DONE)  ## Search for good values, or go on (EXPERIMENT=digits NEW=1 SET="trials=30 workers=2")
	@$(PY) -m pipeline.tune $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(if $(NEW),--new) $(addprefix --set ,$(SET))

tune-apply: $(DONE)  ## Write the best values into params.yaml (EXPERIMENT=digits TRIAL=7)
	@$(PY) -m pipeline.tune_apply $(if $(EXPERIMENT),--experiment $(EXPERIMENT)) $(if $(TRIAL),--trial $(TRIAL))

bench: $(DONE) $(FLOWER)/complete  ## Measure speed and memory on this machine, beside PyTorch, numpy and Flower
	@$(PY) -m benchmarks.bench

torture: $(DONE)  ## Kill a training again and again and compare it with one left in peace
	@$(PY) -m benchmarks.torture

lint: $(DONE)  ## Check style and format
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check

clean:  ## Remove what `make repro` makes again in minutes; keep .venv, raw data, checkpoints, MLflow
	rm -rf data/inputs data/prepared data/partitions results/digits reports/digits dvc_plots .pytest_cache .ruff_cache .hypothesis
	find benchmarks extensions pipeline src tests -name __pycache__ -prune -exec rm -rf {} +

# `complete` names the folder in which the environment was made, for it does not survive a move. While
# `incomplete` stands, an installation was cut off: it is never built upon.
ifneq ($(shell $(PY) -c 'print(open("$(DONE)").read().strip())' 2>/dev/null),$(CURDIR))
.PHONY: $(DONE)
endif

$(DONE): requirements.lock pyproject.toml
	@said=$$(git rev-parse --is-inside-work-tree 2>&1) || { case $$said in \
		*"not a git repository"*) advice="clone the project, or run: git init" ;; \
		*) advice="git says: $$(echo "$$said" | tr -s '\n\t' '  ')" ;; esac; \
		echo "error: DVC needs a git repository here; $$advice" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "error: '$(PYTHON)' is not Python 3.11 or 3.12; name one that is: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@if [ -e $(VENV)/incomplete ] || ! $(PY) -c '' 2>/dev/null || { [ -e $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ]; }; then \
		rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(VENV)/incomplete && rm -f $@
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the packages of requirements.lock (several GB, minutes) ..."
	@quiet=$$([ -t 1 ] || echo --quiet); \
	install="$(PY) -m pip install --disable-pip-version-check $$quiet --no-deps"; \
	$$install -r requirements.lock && $$install --no-build-isolation --editable .
	@$(PY) -m pipeline.plots_template
	@rm $(VENV)/incomplete && echo "$(CURDIR)" > $@

# Flower wants other versions of what is in requirements.lock, so it lives apart; without it its rows stay empty.
$(FLOWER)/complete: requirements.lock
	@rm -rf $(FLOWER)
	@echo "Installing Flower beside, to compare with (several GB, minutes) ..."
	@$(PYTHON) -m venv $(FLOWER) && $(FLOWER)/bin/python -m pip install --disable-pip-version-check --quiet \
		"flwr[simulation]==1.41.0" $$(grep -E '^(torch|numpy)==' requirements.lock) && touch $@ \
		|| echo "warning: Flower cannot be installed here; what is compared with it is left out" >&2
