# Everything a person or the CI runs. Needs make, git and Python 3.11 to 3.13 with venv; the rest comes into .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
# Tests wait for engines half of their time. 0 runs one test after the other, for whoever looks for what two disturb.
TEST_PROCESSES ?= 2
# The first Python that is new enough; set PYTHON to choose another. Engine wheels exist for 3.11 to 3.13.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help run test check bench nightly faults simulate fix replay mutants hot-card recovery relays locust lock image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.project ## install what is needed, start engines, a demo programme and the server; Ctrl-C stops
	@$(BIN)/tillwire up $(RUN_ARGS)

test: $(VENV)/.dev $(VENV)/.project ## run the whole test suite on engines of its own (TEST_ARGS="-k name")
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(TEST_ARGS)

check: $(VENV)/.dev $(VENV)/.project ## format, lint, types, import rules, unit tests; changes nothing
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/unit tests/contract

nightly: $(VENV)/.dev $(VENV)/.project ## a million property cases instead of a few thousand (hours)
	@TILLWIRE_PROPERTY_CASES=$${TILLWIRE_PROPERTY_CASES:-1000000} $(BIN)/python -m pytest tests/property --timeout 0

faults: $(VENV)/.dev $(VENV)/.project ## break a whole installation at random for ten minutes and judge it (SEED=n ROUNDS=k)
	@$(BIN)/python -m tests.campaign $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(FAULTS_ARGS)

fix: $(VENV)/.dev $(VENV)/.project ## format, mend what the linter can, write generated pages anew
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .
	$(BIN)/python -m server.settings_table > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(BIN)/python -m admin_api.openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json

replay: $(VENV)/.dev $(VENV)/.project ## send a year of real sales through the server (REPLAY_ARGS="--weeks 1-4")
	@$(BIN)/tillwire replay $(REPLAY_ARGS)

simulate: $(VENV)/.dev $(VENV)/.project ## play faults on virtual time for a while, or repeat one scenario (MINUTES=10, SEED=7)
	@$(BIN)/python -m tests.simulator $(if $(SEED),--seed $(SEED),--minutes $(or $(MINUTES),1)) $(SIMULATE_ARGS)

mutants: $(VENV)/.dev $(VENV)/.project ## plant known bugs, one at a time, and show which instrument finds each (MUTANTS="refund_twice")
	@$(BIN)/python -m tests.mutants $(MUTANTS) $(MUTANTS_ARGS)

bench: $(VENV)/.dev $(VENV)/.project ## measure everything beside its peers (QUICK=1: under two minutes, BENCH_ARGS="--only pgbench")
	@$(BIN)/python -m loadtests.bench $(if $(QUICK),--quick) $(BENCH_ARGS)

hot-card: $(VENV)/.dev $(VENV)/.project ## 256 registers spend one card to its last point, and how fast (HOT_CARD_ARGS="--workers 2")
	@$(BIN)/python -m tests.measurements.hot_card $(HOT_CARD_ARGS)

recovery: $(VENV)/.dev $(VENV)/.project ## how soon the first answer comes with a million accounts and an empty Redis (ACCOUNTS=1000000)
	@$(BIN)/python -m tests.measurements.recovery --accounts $(or $(ACCOUNTS),1000000) $(RECOVERY_ARGS)

relays: $(VENV)/.dev $(VENV)/.project ## stores that were cut off come back beside live traffic (RELAYS_ARGS="--stores 200")
	@$(BIN)/python -m tests.measurements.relays $(RELAYS_ARGS)

locust: $(VENV)/.dev $(VENV)/.project ## play a load profile on engines of its own (PROFILE=quiet_day LOCUST_ARGS="--registers 100")
	@$(BIN)/python -m loadtests.play $(or $(PROFILE),saturday_noon) $(LOCUST_ARGS)

lock: ## resolve the dependencies of pyproject.toml anew into both lock files
	@test -x .venv.lock/bin/uv || { $(PYTHON) -m venv .venv.lock && .venv.lock/bin/python -m pip install --quiet uv; }
	$(COMPILE) --extra embedded --extra build -o requirements.lock
	$(COMPILE) --all-extras -o requirements-dev.lock

image: ## build the container image
	docker build --tag tillwire .

clean: ## remove what was installed and cached; the folder data stays
	rm -rf $(VENV) .venv.lock build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

COMPILE := .venv.lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml

# Stamps: each is newer than what it was made from, so that a second run installs nothing.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later is not installed" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) lacks venv: apt-get install python3-venv" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock | $(BIN)/python
	@echo "installing requirements.lock ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@touch $@

# It contains all of requirements.lock, so that is done as well.
$(VENV)/.dev: requirements-dev.lock | $(BIN)/python
	@echo "installing requirements-dev.lock ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $(VENV)/.run $@

$(VENV)/.project: pyproject.toml | $(VENV)/.run
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# A newer lock must be installed even though the project itself need not be.
run: $(VENV)/.run
