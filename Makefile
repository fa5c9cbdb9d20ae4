# chat   start the web chat on http://127.0.0.1:7860        make chat ARGS="--port 8000"
# test   run the tests; those of the page need Chromium     make test ARGS="tests/graph -x"
# check  lint, format, types, import layers, starter graph
# bench  run every script of benchmarks/
# clean  remove caches and built distributions; .venv and vectorstore/ stay
#
# The first target that runs makes .venv and installs everything into it, once. PYTHON chooses the interpreter (3.11 or newer).
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS and PIP_CERT are honoured.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

# uv does not read pip's variables, so they are handed over; with a second index it is told to compare versions as pip does.
UV_SOURCES := $(addprefix --find-links ,$(PIP_FIND_LINKS)) \
	$(addprefix --default-index ,$(PIP_INDEX_URL)) \
	$(addprefix --index ,$(PIP_EXTRA_INDEX_URL)) \
	$(if $(PIP_EXTRA_INDEX_URL),--index-strategy unsafe-best-match)
UV := $(if $(PIP_CERT),SSL_CERT_FILE=$(PIP_CERT) )$(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help chat test check bench clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt uv
	$(UV) pip install --python $(BIN)/python $(UV_SOURCES) -c constraints.txt -e '.[test]' \
		|| $(BIN)/python -m pip install -c constraints.txt -e '.[test]'
	@touch $@

chat: $(READY)
	$(BIN)/python app.py $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m biobridge_rag.graph.starter.check

bench: $(READY)
	@failed=; for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python "$$script" || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find app.py benchmarks biobridge_rag tests -name __pycache__ -type d -prune -exec rm -rf {} +
