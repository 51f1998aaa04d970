# The two commands: `make demo` and `make test`. Both are safe to run again, and quick the second time.

PYTEST = .venv/bin/pytest

.PHONY: help setup demo test test-slow check docs test-lab bench mutants clean

help:
	@echo 'make demo       set up, then the reboot race on Debian 6.1, 6.12, 7.3 and a mutant'
	@echo 'make test       set up, then ruff, mypy --strict and pytest (unit tests and real boots)'
	@echo 'make test-slow  the tests that take minutes each'
	@echo 'make test-lab   engine kvm in an emulated host: two hours'
	@echo 'make check      ruff and mypy only'
	@echo 'make docs       the documentation as a site, in site/'
	@echo 'make bench      the figures of docs/performance.md'
	@echo 'make mutants    every seeded bug against the scenarios of its claims'
	@echo 'make setup      what the others begin with; leaves .venv/bin/harness'
	@echo 'make clean      remove .venv and caches of the tools (kernels and runs stay)'

setup:
	@scripts/setup

demo: setup
	.venv/bin/harness run scenarios/demo.yaml

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: check
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m 'slow and not lab'

test-lab: setup
	$(PYTEST) -m lab

docs: setup
	.venv/bin/mkdocs build --strict --quiet

bench: setup
	.venv/bin/harness bench

mutants: setup
	.venv/bin/harness mutants

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis
