# Every target sets up what it needs; `make` alone lists them all.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first of these that is at least Python 3.11 becomes .venv's interpreter.
PYTHON ?= python3.11 python3
ARGS ?=

VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
PIP_COMPILE := $(VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --resolver=backtracking

# Stamps live inside .venv, so that a new .venv is complete or visibly not.
RUNTIME := $(VENV)/.runtime
KERNELS := $(VENV)/.kernels
DEV := $(VENV)/.dev

KERNEL_SOURCES := $(wildcard shared/*.py workers/*.py loadtest/*.py loadtest/*/*.py)

.PHONY: help setup hub test bench bench-capacity bench-limits bench-scenarios bench-smoke lint format lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(KERNELS) ## make .venv with the command `tuttihub`, compile the kernels
	@echo "==> ready: $(VENV)/bin/tuttihub"

hub: $(KERNELS) ## run a hub, full mix on TCP 4464; more options: make hub ARGS="-p2 -q8"
	@exec $(VENV)/bin/tuttihub serve -p4 $(ARGS)

test: $(KERNELS) $(DEV) lint ## lint, then run all tests; a choice: make test ARGS="-k mixer -x"
	@tests/peers.sh
	none=5 verdict=$$none
	check() { # a part in which a choice leaves nothing says nothing
		code=0
		$(VENV)/bin/python -m pytest "$$@" $(ARGS) || code=$$?
		case $$code:$$verdict in $$none:*) ;; 0:$$none | [1-9]*:*) verdict=$$code ;; esac
	}
	echo "==> pytest: what only computes, on all cores"
	check -m "not (alone or living or end_to_end)" --numprocesses auto --dist worksteal
	echo "==> pytest: what is in real time or starts processes, side by side as far as it may"
	check -m "(alone or living or end_to_end) and not undivided" --numprocesses 5 --dist worksteal
	echo "==> pytest: what not even a process that starts may disturb"
	check -m undivided
	exit $$verdict

bench: $(KERNELS) $(DEV) ## measure everything anew, ten minutes; less: make bench ARGS="--clients 10"
	@$(VENV)/bin/python -m loadtest.benchmarks $(ARGS)

# 1: a search did not find its number, 3: the generator gave out first; there are figures all the same
bench-capacity: $(KERNELS) $(DEV) ## search how many clients this machine carries, for the tables in docs/loadtest.md
	@code=0
	$(VENV)/bin/tuttihub capacity --json loadtest/results/capacity-$$(date -u +%F).json $(ARGS) || code=$$?
	case $$code in 0 | 1 | 3) $(VENV)/bin/python -m loadtest.benchmarks.capacitytable ;; esac
	exit $$code

bench-limits: $(KERNELS) $(DEV) ## where the time goes, and targets, for docs/limits.md; 20 minutes; needs root, perf, strace
	@for part in microseconds serial modelcheck targets; do
		$(VENV)/bin/python -m loadtest.benchmarks.$$part
	done

bench-scenarios: $(KERNELS) $(DEV) ## play all ready-made scenarios, six minutes, for the table in docs/loadtest.md
	@$(VENV)/bin/python -m loadtest.benchmarks.scenarios $(ARGS)

bench-smoke: $(KERNELS) $(DEV) ## a minute of it: fails on wrong sound or a broken tool, never on time
	@$(VENV)/bin/python -m loadtest.benchmarks.smoke $(ARGS)

lint: $(DEV) ## ruff and mypy
	@echo "==> ruff"
	$(VENV)/bin/ruff check
	echo "==> mypy"
	$(VENV)/bin/mypy

format: $(DEV) ## sort imports and format in place
	@$(VENV)/bin/ruff check --fix --exit-zero --quiet
	$(VENV)/bin/ruff format

# The public index alone is asked, whatever this machine's pip is configured to prefer: its hashes
# cover every published file, and so every platform. `make lock ARGS=--upgrade` moves the pins on.
lock: $(DEV) ## pin pyproject.toml's dependencies in requirements*.txt
	@export CUSTOM_COMPILE_COMMAND="make lock"
	export PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL=
	echo "==> requirements.txt"
	$(PIP_COMPILE) --build-deps-for=editable --output-file=requirements.txt $(ARGS) pyproject.toml
	echo "==> requirements-dev.txt"
	$(PIP_COMPILE) --build-deps-for=editable --extra=dev --constraint=requirements.txt \
		--output-file=requirements-dev.txt $(ARGS) pyproject.toml

clean: ## remove caches, compiled kernels and build results
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		$(KERNELS) $(VENV)/var/tuttihub-kernels
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf $(VENV)

$(VENV)/bin/python:
	@fits() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
	find_python() {
		for python in $(PYTHON); do
			if fits "$$python"; then return; fi
		done
		python=
	}
	can_apt() { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
	apt_install() {
		echo "==> installing $$* (apt)"
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq
		apt-get install -qq --no-install-recommends "$$@" >/dev/null
	}
	find_python
	if [ -z "$$python" ] && ! command -v python3 >/dev/null && can_apt; then
		apt_install python3 python3-venv
		find_python
	fi
	if [ -z "$$python" ]; then
		echo "error: tuttihub needs Python 3.11 or newer; tried: $(PYTHON)" >&2
		echo "       install one (Debian 12: apt-get install python3 python3-venv)," >&2
		echo "       or name one: make setup PYTHON=/path/to/python3" >&2
		exit 1
	fi
	# Debian splits venv's bootstrap off into a package of its own, one for each Python version.
	package=$$("$$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null && can_apt; then
		apt_install "$$package"
	fi
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then
		echo "error: $$python cannot make virtual environments: its module ensurepip is missing" >&2
		echo "       Debian and Ubuntu: sudo apt-get install $$package; then run make again" >&2
		exit 1
	fi
	echo "==> making $(VENV) with $$("$$python" --version) ($$(command -v "$$python"))"
	"$$python" -m venv --clear --prompt tuttihub $(VENV) || { rm -rf $(VENV); exit 1; }

# --no-build-isolation: what builds the project is pinned and hashed like all else.
$(RUNTIME): requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "==> installing $$(grep -c == requirements.txt) pinned packages"
	$(PIP) install --quiet --require-hashes -r requirements.txt
	echo "==> installing tuttihub (editable)"
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Quick unless a kernel did change: the cache is keyed by the text of the sources.
$(KERNELS): $(RUNTIME) $(KERNEL_SOURCES)
	@echo "==> compiling kernels"
	$(VENV)/bin/python -m workers.warm
	touch $@

$(DEV): $(RUNTIME) requirements-dev.txt
	@echo "==> installing the tools for tests and checks"
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	touch $@
