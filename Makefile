# make demo | test | test-all | lint | clean; each sets up .venv by itself when it is missing or stale.
# `make PYTHON=/path/to/python3.12 demo` picks the interpreter.

VENV := .venv
RUN := $(VENV)/bin/python -m
PYTHON ?=

.PHONY: help demo test test-all verify lint types clean anew
.DEFAULT_GOAL := help

help:
	@echo "make demo      embedded data, three runs, one table (minutes)"
	@echo "make test      ruff, mypy, fast tests, committed numbers verified"
	@echo "make verify    committed numbers rescored, one cell of each task run again"
	@echo "make test-all  the same with the slow tests"
	@echo "make lint      ruff and mypy"
	@echo "make clean     remove the environment, caches and build products; results in runs/ stay"

# An environment of a folder that has moved, or of a Python that is gone, is set up again.
ifneq ($(shell cat $(VENV)/.folder 2>/dev/null),$(CURDIR))
STALE := anew
endif
ifneq ($(shell $(VENV)/bin/python -c "print('ok')" 2>/dev/null),ok)
STALE := anew
endif
anew:

$(VENV)/.installed: pyproject.toml $(STALE)
	@$(call set_up,.,the package and what it needs)
	@touch $@

$(VENV)/.installed-for-tests: pyproject.toml $(STALE)
	@$(call set_up,.[test$(comma)lint],the package with what tests and linters need)
	@touch $(VENV)/.installed $@

comma := ,
define set_up
set -e; \
if ! $(VENV)/bin/python -c '' 2>/dev/null; then \
	python=''; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3 python3.14 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer found; install one, or say make PYTHON=/path/to/python" >&2; \
		exit 2; \
	fi; \
	echo "setting up $(VENV) with $$("$$python" --version)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $$python cannot make environments (on Debian: apt install python3-venv)" >&2; \
		exit 2; }; \
fi; \
echo "installing $(2) into $(VENV) (the first time takes minutes: PyTorch is large)"; \
$(RUN) pip install -qq --disable-pip-version-check -e '$(1)'; \
echo "$(CURDIR)" > $(VENV)/.folder
endef

demo: $(VENV)/.installed
	$(VENV)/bin/ssft-bench run --upstream score_hubert --interface hconv --task asr
	$(VENV)/bin/ssft-bench run --upstream hubert_mini --interface hconv --task asr
	$(VENV)/bin/ssft-bench run --upstream fbank --interface weighted_sum --task asr
	$(VENV)/bin/ssft-bench leaderboard build

# The four top folders are parts of the package ssft_bench (pyproject, package-dir); mypy does not read
# that mapping, so it is shown a tree of links that looks as installed.
types: $(VENV)/.installed-for-tests
	@rm -rf build/types && mkdir -p build/types/ssft_bench
	@ln -s $(CURDIR)/ssft_bench/* $(addprefix $(CURDIR)/,upstreams interfaces downstreams leaderboards sweeps) \
		build/types/ssft_bench/
	cd build/types && ../../$(RUN) mypy --config-file ../../pyproject.toml

lint: types
	$(RUN) ruff check .
	$(RUN) ruff format --check .

test: lint
	$(RUN) pytest -m "not slow"
	$(verify)

# Every committed prediction rescored, a cell of each task run again. From a folder without runs/: what a developer
# has tried there is not the reference's business.
define verify
cd leaderboards && OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 ../$(VENV)/bin/ssft-bench leaderboard verify --rerun
endef

verify: $(VENV)/.installed
	$(verify)

test-all: lint
	$(RUN) pytest -m ""
	$(verify)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find ssft_bench upstreams interfaces downstreams leaderboards sweeps tests -name __pycache__ -prune -exec rm -rf {} +
