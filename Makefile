.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help install study test check bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /\1\t/' | expand -t 10

install: $(READY) ## make .venv with the pinned dependencies and this project

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

study: $(READY) ## the main job: pretrain, tune by each method, measure, draw (about 8 minutes)
	$(BIN)/python -m experiments.run study=quick

test: $(READY) ## the tests
	$(BIN)/python -m pytest

check: $(READY) ## formatting, lint, types, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(READY) ## benchmarks, printed
	$(BIN)/python -m pytest tests/benchmarks --override-ini addopts=-sq

clean: ## remove the environment and caches; results and store stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find synth models analysis experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
