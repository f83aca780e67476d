# Two commands matter: `make book` and `make test`. Each sets up what it needs.
PYTHON   ?= python3
PIP_ARGS ?=
BUILD    ?= .
JOBS     ?= 2

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE   = $(BUILD)/_build/html
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# Files, names and outputs are UTF-8, whatever the locale.
export PYTHONUTF8 := 1

.PHONY: help book test proofs check lab data paper bench twins clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make book    execute every notebook and build the site (BUILD=folder for another place;"
	@echo "             EXECUTE=no shows the committed outputs instead, within a minute,"
	@echo "             EXECUTE=data only where no data set changes them)"
	@echo "make test    check the code, then test the package, the book and the notebooks"
	@echo "make proofs  the proofs that make test leaves out, since they take long"
	@echo "make check   format, lint and types of all Python: half a minute at first"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make data    fetch Omniglot"
	@echo "make paper   train what the paper still lacks, run after run (ARGS='--hours 8', ARGS=--dry-run)"
	@echo "make bench   time the meta-gradient against other libraries (ARGS=--save keeps the tables)"
	@echo "make twins   re-execute the .ipynb of every changed .py (FORCE=1 for all)"
	@echo "make clean   remove what was built (make distclean: the environment too)"
	@echo
	@echo "PYTHON=python3.13 chooses the interpreter, PIP_ARGS='...' goes to pip install, and"
	@echo "JOBS=4 makes it four processes that test (JOBS=0: just one, for a debugger)."

# The stamp is written last, so an installation that was interrupted starts again. It names this folder: in a
# clone that was copied or moved, what is installed still points to the old place. (So do the first lines of
# the scripts in .venv/bin, which are therefore started through its Python.)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed, but '$(PYTHON)' is missing or another version; choose one with PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[book,test]" $(PIP_ARGS)
	@pwd -P > $@

# Pages start from nothing, so that an earlier build hides no warning and leaves no page behind;
# executed notebooks come from the cache, whose key is in book/_ext/mamlbook.py.
book: $(STAMP)
	@rm -rf "$(SITE)"
	$(BIN)/python $(BIN)/jupyter-book build . -n -W --keep-going --all --path-output "$(BUILD)"
	$(BIN)/python book/_ext/check_site.py "$(SITE)"
	$(BIN)/python book/_ext/widths.py "$(SITE)"
	@echo "Front page: $(SITE:./%=%)/book/index.html"

# Of these, what comes after a failure does not run: mend the first before the next.
CHECK = $(BIN)/python -m ruff format --check --output-format concise . \
     && $(BIN)/python -m ruff check . \
     && $(BIN)/python -m mypy

check: $(STAMP)
	@$(CHECK)

# All three parts always run. Committed outputs are those of a CPU without any data set.
test: $(STAMP)
	@$(CHECK); check=$$?; \
	$(PYTEST) --doctest-modules tests mamlkit; package=$$?; \
	MAMLKIT_DATA=none CUDA_VISIBLE_DEVICES="" $(PYTEST) --nbval notebooks; notebooks=$$?; \
	test $$check -eq 0 || echo "make test: make check found something" >&2; \
	test $$package -eq 0 || echo "make test: not all tests of the package and the book passed" >&2; \
	test $$notebooks -eq 0 || echo "make test: not all tests of the notebooks passed" >&2; \
	test $$check -eq 0 -a $$package -eq 0 -a $$notebooks -eq 0

proofs: $(STAMP)
	$(PYTEST) -m slow tests

lab: $(STAMP)
	$(BIN)/python -m jupyter trust notebooks/*.ipynb
	$(BIN)/python -m jupyterlab

data: $(STAMP)
	$(BIN)/python -m mamlkit data omniglot

paper: $(STAMP)
	$(BIN)/python -m mamlkit paper $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]" $(PIP_ARGS)
	$(BIN)/python benchmarks/meta_gradient.py $(ARGS)

twins: $(STAMP)
	$(BIN)/python book/_ext/refresh.py $(if $(FORCE),--force) notebooks/*.py

clean:
	rm -rf "$(BUILD)/_build" .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

distclean: clean
	rm -rf $(VENV)
