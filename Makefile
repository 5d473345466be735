# Needs only Python 3.11 or later and make. `make help` lists what can be made.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run demo test proofs check lint types format lock reference bench chaos soak attack converge shell clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY)  ## Make .venv with everything that running and testing need

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later (with venv) is needed; set PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: setup  ## Start everything here: Postgres, Redis, web, worker, scheduler (Ctrl-C stops it; ARGS=--simulators plays the platforms too)
	@$(BIN)/viral up $(ARGS)

demo: setup  ## Show a living world on the operator's page within a minute: simulated (ARGS="--seconds 60 --seed 7 --port 8000 --home DIR")
	@$(BIN)/viral dev demo $(ARGS)

# Of the tests with a marker, or of those without; what is made is kept where nobody else looks.
PYTEST = folder=$$(mktemp -d) && { PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
	--basetemp=$$folder/tests -m "$(1)" $(ARGS); outcome=$$?; rm -rf $$folder; exit $$outcome; }

test: setup  ## Run the suite on real servers: 8 minutes on two idle cores (ARGS="-k quota" for a part, TEST_SEED=7 for draws of before)
	@$(call PYTEST,not proof)

proofs: setup  ## Run the tests that take long: whole systems, kills at every moment, every page in a browser (ARGS as of test)
	@$(call PYTEST,proof)

check: lint types test proofs  ## All that CI runs

lint: setup  ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## Types
	$(BIN)/mypy

format: setup  ## Let ruff mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup  ## Pin every dependency anew, with hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --constraint requirements.txt --all-extras \
		--output-file requirements-dev.txt pyproject.toml

reference: setup  ## Write docs/reference anew, from the code
	@$(BIN)/python -m tests.reference

bench: setup  ## Measure speed, ours beside the peers' (ARGS="--only drain,latency --runs 5 --quick" for parts)
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: setup  ## Break everything that can break, and count (ARGS="--only R1,R3 --seed 7"; up to an hour)
	@$(BIN)/python -m tests.chaos $(ARGS)

soak: setup  ## Let 200 clients at one web process, two minutes (ARGS="--seconds 10 --tenants 50 --clients 200")
	@$(BIN)/python -m tests.soak $(ARGS)

attack: setup  ## Send a web process all that strangers may send, and report (ARGS="--only half --report FILE")
	@$(BIN)/python -m tests.attack $(ARGS)

converge: setup  ## Deliver whole lives of Stripe customers and Clerk's people in every order (ARGS="--seconds 600 --seed 7" or "--random 200 --seed 7")
	@$(BIN)/python -m tests.converge $(ARGS)

shell: setup  ## Python with an `app` of the running system (see `viral up`)
	@$(BIN)/python -i -c "from cli.session import session; app = session().__enter__(); print('app', app.version)"

clean:  ## Remove what was made here, data of the embedded servers included
	rm -rf $(VENV) .viral .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench reports
