# `make demo` and `make test` each work as the only command on a machine with Python 3.11 or newer:
# both build .venv in this folder first, with uv where it is installed, with venv and pip where it is not.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: demo test long faults mutants coverage lint format clean

demo: .venv/.demo
	$(BIN)/sora-tools demo

test: .venv/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

long: .venv/.dev
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

faults: .venv/.dev
	@$(BIN)/python tests/test_faults.py

mutants: .venv/.dev
	@$(BIN)/python tests/mutants.py

coverage: .venv/.dev
	$(BIN)/python -m pytest --cov $(PYTEST_ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .coverage htmlcov .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build

.venv/.demo: pyproject.toml
	$(call install,-e '.[demo]')
	touch $@

.venv/.dev: pyproject.toml
	$(call install,-e '.[all]' --group dev)
	touch $@ .venv/.demo

define install
	@if ! command -v uv >/dev/null && [ -z "$(PYTHON)" ]; then echo "sora-tools needs Python 3.11 or newer (or uv)"; exit 1; fi
	if command -v uv >/dev/null; then \
		{ [ -d .venv ] || uv venv --quiet --python '>=3.11' .venv; } && uv pip install --quiet --python .venv $(1); \
	else \
		{ [ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); \
	fi
endef
