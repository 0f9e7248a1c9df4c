"""Figures on real texts: `python -m benchmarks.texts` and what it is made of."""
