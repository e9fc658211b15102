# Two commands do all on a fresh machine: `make demo` and `make test`. PYTHON may name another interpreter, 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-zoo lint format bench chaos soak stack fuzz constraints clean

demo: .venv/.demo
	$(BIN)/python -m flows.demo

test: .venv/.dev
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not fuzz"

test-slow: .venv/.dev .venv/.train
	$(BIN)/pytest -q -m "slow and not fuzz" --ignore tests/test_growth.py
	$(BIN)/pytest -q -m slow tests/test_growth.py  # alone: its cluster stays small where others have been in its process

# Networks of segmentation_models_pytorch, in an environment of their own: 5 GB.
test-zoo: .venv-zoo/.done
	.venv-zoo/bin/pytest -q tests/zoo

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/sizes.py

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "maskmill needs Python 3.11 or later; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1"

.venv/.demo: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[demo]"
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[demo,wsi]" --group dev
	touch $@

.venv/.train: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[train]"
	touch $@

.venv-zoo/.done: pyproject.toml constraints.txt tests/zoo/requirements.txt
	$(PYTHON) -m venv .venv-zoo
	.venv-zoo/bin/python -m pip install -q --upgrade "pip>=25.1"
	grep -v '^nvidia-' constraints.txt > .venv-zoo/constraints.txt  # torch brings CUDA's libraries of its own
	.venv-zoo/bin/python -m pip install -q -c .venv-zoo/constraints.txt -r tests/zoo/requirements.txt -e . pytest pytest-timeout hypothesis
	touch $@

# The pins, for every supported Python at once; no registry's name stands in them.
constraints:
	uv pip compile -q --universal --python-version 3.11 --extra gpu --extra demo --extra wsi --group dev --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml -o constraints.txt

# All parts take more than an hour, and the peers' environments gigabytes, kept under .bench.
bench: .venv/.dev
	$(BIN)/python -m tests.bench

# One run disturbed at random, and its bytes compared: `make chaos SEED=7` repeats it. `soak` does so for an hour.
SEED ?= 0
chaos: .venv/.dev
	$(BIN)/python -m tests.chaos --seed $(SEED)

soak: .venv/.dev
	$(BIN)/python -m tests.chaos --seed $(SEED) --minutes 60

# The services of docker/compose.yaml as processes of this machine, through one night with a worker killed: 3 minutes.
# It needs PostgreSQL's programs and openssl, and says how to get them.
stack: .venv/.dev
	$(BIN)/python -m tests.stack

# What strangers may give, drawn at random, others each time: `make fuzz FUZZ=10` draws ten times as many.
FUZZ ?= 1
fuzz: .venv/.dev
	FUZZ=$(FUZZ) $(BIN)/pytest -q -n 2 --dist load -m fuzz --timeout 0 tests/fuzz

clean:
	rm -rf .venv .venv-zoo demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
