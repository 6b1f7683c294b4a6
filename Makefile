# Archwright: two commands for a new user (study, test), and what its developers run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Two OpenMP pools on a busy machine are far slower than one thread each.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help study test test-all lint format bench clean

help:
	@echo "make study      install into .venv, then search a network for real handwritten digits"
	@echo "make test       install into .venv, then run the tests"
	@echo "make test-all   the same with the slow tests"
	@echo "make lint       ruff and mypy"
	@echo "make format     let ruff rewrite the formatting"
	@echo "make bench      the benchmarks; figures go to studies/benchmarks/results/"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Archwright needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 ...' % sys.version_info[:2])"
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	@touch $(READY)

study: $(READY)
	@$(BIN)/archwright run digits

test: $(READY)
	@$(BIN)/pytest -q -m "not slow and not gpu" -n 2 --dist loadgroup tests
	@TRITON_INTERPRET=1 $(BIN)/pytest -q -m "kernels and not slow" -n 2 tests/kernels

test-all: $(READY)
	@$(BIN)/pytest -q -n 2 --dist loadgroup tests
	@TRITON_INTERPRET=1 $(BIN)/pytest -q -m kernels -n 2 tests/kernels

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)
	@for script in digest kernels recurrent_layers newton offline_compile overhead ray_overhead stopping kill_resume digits; do $(BIN)/python studies/benchmarks/$$script.py || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
