# `make demo`, `make test` and `make test-fast` set up .venv by themselves: Python 3.11 or newer, pip, make and a C++ compiler are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast lint bench bench-conversion clean

demo: $(VENV)/installed
	$(BIN)/nnunet_partial demo

test: lint
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n 2 --dist loadscope --cov --cov-report=term:skip-covered

test-fast: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n 2 -m "not (slow or install or browser or slurm)"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/mypy && mkdir -p build/mypy/nnunet_partial
	ln -s "$(CURDIR)"/nnunet_partial/* "$(CURDIR)"/dataset_conversion build/mypy/nnunet_partial/
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python benchmarks/losses.py --threads 1 2
	PYTHONPATH=tests $(BIN)/python benchmarks/trainers.py

# Ten minutes: a thousand drawn videos, converted by us and by a plain OpenCV loop, in turn.
bench-conversion: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[benchmark]'
	$(BIN)/python benchmarks/conversion.py

$(VENV)/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
