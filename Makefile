# One door: people and continuous integration run the same targets. Every environment is made once and renewed when
# what it is made from changes. `make PYTHON=python3.12 test` chooses another interpreter.

PYTHON ?= python3
PYTHON310 ?= $(or $(wildcard $(shell pyenv prefix 3.10 2>/dev/null)/bin/python3.10),$(shell command -v python3.10))

DEMO_OUT := build/demo
BUNDLE   := examples/demo/bundle
IMAGES   := examples/demo/images
PEERS    := build/peers
SOURCES  := $(shell find tnn_edge -name '*.py' -o -name py.typed)

# One thread a process: tests compare numbers and times, and a thread pool per test would fight over few cores.
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
# Two processes at a time, each a file of tests, whose fixtures are then made once.
PYTEST_FILES := $(PYTEST) -n 2 --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test check test-slow test-oldest bench-peers clean packages no-torch

help:
	@echo "make demo         the demo bundle proved, its dial measured, a day and a year on a pole; without torch"
	@echo "make test         the tests that take seconds"
	@echo "make check        format, lint, types, import contracts, tests, wheel content"
	@echo "make test-slow    the tests that train"
	@echo "make test-oldest  the device half on Python 3.10 with the oldest dependencies it declares"
	@echo "make bench-peers  this engine beside the other ways of running one network; RUN=folder for a run of your own"
	@echo "make clean        remove environments, builds and caches"

demo: .venv-device/installed no-torch
	@mkdir -p $(DEMO_OUT)
	.venv-device/bin/tnn-edge verify $(BUNDLE)
	.venv-device/bin/tnn-edge sweep $(IMAGES) --bundle $(BUNDLE) --png $(DEMO_OUT)/throttle.png
	.venv-device/bin/tnn-edge day examples/demo/day.toml --out $(DEMO_OUT)
	.venv-device/bin/tnn-edge simulate examples/demo/simulation.toml --html $(DEMO_OUT)/year.html \
	    --policy examples/policies/price.toml --policy examples/policies/soc_ramp.toml

test: .venv/installed
	$(PYTEST_FILES)

check: packages .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTEST_FILES)

test-slow: .venv/installed
	$(PYTEST) -m slow

test-oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest tests/device

# Speed and memory do not hang on the weights: without a run there is one of random weights.
RUN ?= $(PEERS)/resnext50
bench-peers: .venv/installed $(RUN)/run.json
	@mkdir -p $(PEERS)
	.venv/bin/python -m export.peers $(RUN) --threads 1 --threads 2 --rounds 30 --out $(PEERS)/peers.json

$(PEERS)/resnext50/run.json: | .venv/installed
	.venv/bin/python -m train.classifier --recipe train/recipes/imagenet_resnext50.toml --weights none --untrained \
	    --out $(@D)

clean:
	rm -rf .venv .venv-device .venv-oldest build dist *.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find tnn_edge train export tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian packages that the tests need. Without root they are left to whoever owns the machine.
packages:
	@missing=; \
	for package in $$(sed 's/#.*//' .ci/packages); do \
	    dpkg -s "$$package" >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "note: not root, so these are not installed:$$missing" >&2; exit 0; fi; \
	apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing

# The demo must prove that a device needs no torch.
no-torch: .venv-device/installed
	@if .venv-device/bin/python -c 'import torch' 2>/dev/null; then \
	    echo "error: torch can be imported in .venv-device; the demo must run without it: rm -r .venv-device" >&2; \
	    exit 1; \
	fi

# Everything: the package as an editable install, the workshop and the development tools.
# pip is renewed first: `--group` needs pip 25.1.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: the workshop needs Python 3.11 or later: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -U pip
	.venv/bin/python -m pip install -q -e '.[cpu,camera,plot,sim,train]' --group dev
	@touch $@

# The device half, installed as a device would have it: a copy, not a link to this checkout.
# The dependencies are a stamp of their own, so that a change of the sources renews only our own package.
.venv-device/dependencies: pyproject.toml
	$(PYTHON) -m venv .venv-device
	.venv-device/bin/python -m pip install -q -U pip
	rm -rf build/lib build/bdist.*
	.venv-device/bin/python -m pip install -q '.[cpu,plot,sim]'
	@touch $@

.venv-device/installed: .venv-device/dependencies $(SOURCES)
	rm -rf build/lib build/bdist.*
	.venv-device/bin/python -m pip install -q --force-reinstall --no-deps .
	@touch $@

.venv-oldest/installed: pyproject.toml .ci/oldest.txt
	@test -n "$(PYTHON310)" || \
	    { echo "error: no Python 3.10 found: make PYTHON310=/path/to/python3.10 test-oldest" >&2; exit 1; }
	$(PYTHON310) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install -q -U pip
	.venv-oldest/bin/python -m pip install -q -c .ci/oldest.txt -e '.[cpu,camera,plot,sim]' --group test
	@touch $@
