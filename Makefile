# What there is to do; `make` alone prints it.

PYTEST := .venv/bin/python -m pytest
COVERED := formats chain registers engine custody verifier securityfs
SOURCES := src tests bench demo examples vm vm/run vm/build-kernel

.PHONY: help setup demo demo-vm test lint unit real vm fuzz bench deb clean

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: ## install what is missing and make .venv
	@scripts/setup

demo: setup ## set everything up and show imarium at work on this machine: an engine, a TPM simulator, custody, a verifier
	@.venv/bin/imarium demo

demo-vm: setup ## the same on a real kernel with staging and a TPM, in a virtual machine
	@.venv/bin/python demo/vm.py

test: setup lint unit real vm fuzz ## set everything up and run every test

lint: setup ## formatting, style, types and layers
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/mypy
	.venv/bin/lint-imports

unit: setup ## the quick tests, with the coverage of what needs no device
	$(PYTEST) tests/unit tests/contract -q $(COVERED:%=--cov=imarium.%) --cov-report=term:skip-covered --cov-fail-under=90

real: setup ## tests on a real TPM (swtpm), real lists and real processes
	$(PYTEST) tests/real -q

vm: setup ## tests on a real kernel in a virtual machine
	$(PYTEST) tests/vm -q

fuzz: setup ## fuzz each parser for a short while
	PYTHON=.venv/bin/python tests/fuzz/run 20

bench: setup ## time replay beside evmctl, and measure what a drain and the engine take
	.venv/bin/python bench/replay.py
	.venv/bin/python bench/custody.py
	.venv/bin/python bench/serve.py
	.venv/bin/python bench/mount.py
	.venv/bin/python bench/engine.py
	.venv/bin/python bench/securityfs.py
	.venv/bin/python bench/watch.py

deb: setup ## build a Debian package, in dist
	@packaging/build-deb

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
