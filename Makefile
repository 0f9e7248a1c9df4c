# Two commands: `make demo` and `make test`. Everything is installed into .venv.
# `make bench` has an environment of its own, with the peers: .venv-bench.

PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo test check lint results build bench clean

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
	$(BIN)/python -m handful.cli.listing docs/methods

build: .venv/ready-dev
	$(BIN)/python -m build

# BENCH="maml --works mini-imagenet --threads 2" chooses; BENCH=--help says how.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks $(BENCH)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml constraints.txt hatch_build.py $(wildcard src/handful/kernels/*.[ch])
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# learn2learn: the C files in its source release are too old for today's Python, so a current Cython makes them anew.
# easyfsl: without torchvision, which it only imports. A peer that cannot be had is left out.
PEER_PIP := .venv-bench/bin/python -m pip --disable-pip-version-check
LEARN2LEARN := .venv-bench/source/learn2learn-0.2.0

.venv-bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	$(PEER_PIP) install --quiet -c constraints.txt -e . setuptools wheel cython
	-$(PEER_PIP) install --quiet -c constraints.txt higher==0.2.1
	-$(PEER_PIP) install --quiet -c constraints.txt torchopt==0.7.3
	-$(PEER_PIP) install --quiet -c constraints.txt pandas tqdm requests gym==0.26.2
	-$(PEER_PIP) install --quiet --no-deps easyfsl==1.5.0
	-rm -rf $(LEARN2LEARN)* && $(PEER_PIP) download --quiet --no-deps --no-build-isolation --no-binary learn2learn \
		-d $(dir $(LEARN2LEARN)) learn2learn==0.2.0 && \
		tar -xzf $(LEARN2LEARN).tar.gz -C $(dir $(LEARN2LEARN)) && \
		.venv-bench/bin/cython -3 $(LEARN2LEARN)/learn2learn/data/*.pyx && \
		$(PEER_PIP) install --quiet --no-deps --no-build-isolation $(LEARN2LEARN)
	touch $@

clean:
	rm -rf .venv .venv-bench dist build demo runs
