# make demo   features and masks of two sample photographs
# make test   lint, types, tests
# make quick  lint, types, and the tests that the change since the last commit (or BASE=...) concerns
# Each makes its own environment in .venv when there is none.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick lint types unit clean

demo: $(VENV)/installed
	$(BIN)/adios demo

test: lint types unit

BASE ?= HEAD

quick: lint types
	tests="$$($(BIN)/python -m tests.changed $(BASE))"; test -z "$$tests" || OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $$tests

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The checker sees the packages as they are installed: train/ and export/ below adios_zoo/.
types: $(VENV)/installed
	rm -rf .typecheck/adios_zoo && mkdir -p .typecheck/adios_zoo
	ln -s ../../train ../../export .typecheck/adios_zoo/
	for f in adios_zoo/*; do case $$f in */__pycache__) ;; *) ln -s ../../$$f .typecheck/adios_zoo/ ;; esac; done
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml

unit: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf .typecheck build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
