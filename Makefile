# Two commands: `make demo` and `make test`. Everything is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test check lint results build clean

demo: .venv/ready
	$(BIN)/handful demo

test: .venv/ready-dev
	$(BIN)/python -m pytest -n auto

check: lint test

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

results: .venv/ready
	$(BIN)/python -m handful.ledger results README.md

build: .venv/ready-dev
	$(BIN)/python -m build

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml constraints.txt hatch_build.py $(wildcard src/handful/kernels/block.*)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv dist build demo runs
