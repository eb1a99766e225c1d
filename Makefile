# make demo: install into .venv, then run the main job.
# make test: install into .venv, then run the whole test suite, two files at a time.
# make learning: hold every algorithm against the exact optimum, three seeds; writes the table.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test learning check dist lock clean

demo: $(READY)
	$(BIN)/textgym demo

# A worker has a whole file, so that what a file shares is made once; files go out in their order.
test: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

learning: $(READY)
	$(BIN)/python benchmarks/learning_table.py

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet tests/test_imports.py

dist: $(READY)
	$(BIN)/python -m build

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet 'pip>=25.1'  # the first that knows --group
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@

# The exact versions that make installs; torch's is chosen by hand.
lock: $(READY)
	$(PIP) install --quiet uv
	echo 'torch==2.13.0' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --no-annotate --no-header --all-extras --group dev --constraint - \
	  pyproject.toml --output-file constraints.txt

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache
