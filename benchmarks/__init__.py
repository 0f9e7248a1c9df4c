"""Handful beside its peers: one file a question. Run `python -m benchmarks --help`."""
