"""Scoring: the metrics, the protocols they are used under, and the benchmark command."""
