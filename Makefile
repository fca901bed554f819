# Everything runs from .venv, which `install` makes. Needed beforehand: make and Python 3.11 or newer.
#   make PYTHON=python3.13 install     picks another interpreter for .venv
#   make test ARGS='-k retry -x'       hands options to pytest; demo, serve and bench take ARGS too

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
STAMP := $(VENV)/.installed
CONTRACT := resource/contract.binpb
BENCH_STAMP := $(VENV)/.installed-bench

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-cluster lint format protos docs contract bench costs chaos fuzz audit faults previous lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the server, the command and the development tools

# constraints.txt pins what was tested together, so that every clone installs the same versions.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is missing or older; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1'
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[gcp]' --group dev
	@touch $@

demo: $(STAMP) ## one task from subscribe to its last event, on a server of its own
	$(BIN)/kuueri demo $(ARGS)

serve: $(STAMP) ## run the server until Ctrl-C
	$(BIN)/kuueri serve $(ARGS)

test: $(STAMP) ## run all tests
	$(PY) -m pytest -n auto --dist worksteal $(ARGS)

test-cluster: $(STAMP) ## run the store's, the engine's and the edge's tests, and the chaos, on a cluster
	$(PY) -m pytest -n auto --dist worksteal tests/store tests/engine tests/service tests/cluster --store cluster $(ARGS)
	$(PY) -m pytest tests/chaos -p no:xdist --timeout 0 --store cluster

lint: $(STAMP) ## check style, types, layers, protos, generated code, locks and file lengths
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against $(CONTRACT)
	$(PY) -m scripts.gen_protos --check
	$(PY) -m scripts.gen_docs --check
	$(PY) -m scripts.lock --check
	$(PY) scripts/check_file_length.py

format: $(STAMP) ## apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(STAMP) ## regenerate kuueri_grpc/pb from protos/
	$(PY) -m scripts.gen_protos

docs: $(STAMP) ## regenerate docs/api.md and docs/configuration.md from the protos and the settings
	$(PY) -m scripts.gen_docs

contract: $(STAMP) ## at a release: make the protos the contract that later ones may only add to
	$(BIN)/buf build --exclude-source-info --output $(CONTRACT)

bench: $(BENCH_STAMP) ## measure everything, with charts (20 to 40 min); or: make bench ARGS='burst spread'
	$(PY) -m benchmarks $(or $(ARGS),full)

$(BENCH_STAMP): $(STAMP)
	$(PY) -m pip install --quiet --constraint constraints.txt --group bench
	@touch $@

costs: $(STAMP) ## count what a task costs anew, into benchmarks/costs.json: commit it with what changed it
	$(PY) -m benchmarks.costs --write

chaos: $(STAMP) ## faults at random, under load, and the account: make chaos CHAOS_SECONDS=600 CHAOS_SEED=7
	$(PY) -m pytest tests/chaos -p no:xdist --timeout 0 $(ARGS)

fuzz: $(STAMP) ## hostile messages to every method of a real server: make fuzz FUZZ_SECONDS=180
	$(PY) -m pytest tests/fuzz -p no:xdist --timeout 0 $(ARGS)

# In an environment of its own: what it needs is nothing that the server or its tests need.
audit: $(STAMP) ## known holes in what constraints.txt pins; asks a database on the internet
	test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/python -m pip install --quiet 'pip-audit>=2.10,<3'; }
	$(VENV)/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict $(ARGS)

faults: $(STAMP) ## the tests of docs/faults.md that measure, and what they measured: make faults FAULTS_DUE=100000
	$(PY) -m pytest tests/faults -p no:xdist -rP $(ARGS) | grep -E '^(fault:|FAILED|ERROR|=+ .* in )'

previous: ## at a release, beforehand: keep the package as it is for tests/faults/test_versions.py
	git archive --format=zip -9 -o tests/faults/previous.zip HEAD kuueri_grpc

lock: $(STAMP) ## raise constraints.txt to the newest versions that pyproject.toml allows, and the locks of the image with it
	$(PY) -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[gcp]' --group dev --group bench
	$(PY) -m pip freeze --all --exclude-editable | grep -v '^pip==' > constraints.txt
	$(PY) -m scripts.lock
	@touch $(STAMP)

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
