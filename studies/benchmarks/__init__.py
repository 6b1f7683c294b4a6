"""Measurements: each script prints its figures and writes them to ``results/``; run as ``python -m archwright.studies.benchmarks.NAME``."""
