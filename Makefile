# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.installed
OUT ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test slow check docs format

demo: $(READY)  ## train an encoder on scikit-learn's digits and see how good it is
	$(BIN)/selftaught pretrain simclr digits --no-flip --out $(OUT) --minutes 1

test: $(READY)  ## the test suite, a process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

slow: $(READY)  ## learning tests and soaks
	$(BIN)/python -m pytest -m slow

check: $(READY)  ## what must pass before each commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest tests/test_architecture.py

docs: $(READY)  ## docs/methods, from the recipes
	$(BIN)/python docs/generate.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)
