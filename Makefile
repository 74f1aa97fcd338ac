# `make` alone tells what there is. Everything runs in .venv, made from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PYTEST_ARGS ?= -n 2

# The oldest supported version first: it is the one the lock was made with.
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)
FIND_PYTHON = for p in $(PYTHONS); do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then python="$$p"; break; fi; done; \
	if [ -z "$$python" ]; then \
	echo "No Python 3.11 or newer that can make virtual environments was found (tried: $(PYTHONS))." \
	"Install one (on Debian and Ubuntu: python3 and python3-venv), or name yours: make PYTHON=/path/to/python3" >&2; \
	exit 2; fi

.PHONY: help test slow soak demo demo-all lab bench size lock clean

help:
	@echo "make test    check style and types, then run the tests"
	@echo "make slow    run the tests that take long, and of which make test runs a shorter form (ten minutes)"
	@echo "make soak    kill a validator 50 times, and play 200 epochs under random faults (half an hour)"
	@echo "make demo    play a small subnet: two validators, seven miners, three epochs"
	@echo "make demo-all  play all public competitions, scaled down, and two funded besides (ten minutes)"
	@echo "make lab     open the notebooks in JupyterLab, beside a small subnet to try them on; LAB_ARGS=--no-browser"
	@echo "make bench   measure the engine beside the plain loop and lm-evaluation-harness; BENCH_ARGS='--quick'"
	@echo "make size    count the lines of every room; BEFORE=COMMIT shows that one's beside them"
	@echo "make lock    write requirements.lock anew from pyproject.toml"
	@echo "make clean   remove .venv and everything that was built or cached"
	@echo "Each makes what it needs first: .venv, from requirements.lock (a minute, from the package index)."
	@echo "PYTHON=/path/to/python3 chooses the Python of .venv; PYTEST_ARGS='tests/test_clock.py' the tests."

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PYTEST_ARGS)

slow: $(READY)
	$(BIN)/pytest $(PYTEST_ARGS) -m slow

soak: $(READY)
	$(BIN)/pytest -m soak --durations=0 -rP

demo: $(READY)
	@$(BIN)/sn37 demo

demo-all: $(READY)
	@PYTHONPATH=tests/support $(BIN)/python -m all_competitions

lab: $(READY)
	@$(BIN)/sn37 lab -- $(LAB_ARGS)

# What takes part besides is an extra; whatever the lock holds stays at its version.
bench: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -c requirements.lock -e '.[bench]'
	@PYTHONPATH=tests $(BIN)/python -m bench $(BENCH_ARGS)

size:
	@$(FIND_PYTHON); "$$python" tests/bench/size.py $(BEFORE)

# The stamp is written last, so an interrupted installation is taken up again.
$(READY): requirements.lock pyproject.toml
	@if ! $(BIN)/python -c '' 2>/dev/null; then $(FIND_PYTHON); \
	echo "Making $(VENV) with $$python, from requirements.lock ..."; \
	"$$python" -m venv --clear $(VENV) || exit 2; fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# torch is held at a version by hand: on Linux every release may bring other gigabytes of CUDA packages.
# Those differ between platforms, so they and local version tags stay out of the lock.
TORCH := torch==2.13.0
lock:
	@$(FIND_PYTHON); folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	"$$python" -m venv "$$folder" && \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$(TORCH)" -e '.[dev]' && \
	"$$folder/bin/python" -m pip freeze --all --exclude pip --exclude sn37 > "$$folder/freeze" && \
	{ echo "# Exact versions of everything in pyproject.toml, its extra dev included. Written by: make lock"; \
	grep -viE '^(nvidia|cuda|triton)' "$$folder/freeze" | sed 's/+[a-z0-9.]*$$//' | LC_ALL=C sort -f; } > requirements.lock.new && \
	mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis requirements.lock.new
	find sn37 tests -name __pycache__ -type d -prune -exec rm -rf {} +
