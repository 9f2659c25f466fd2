"""Benchmarks of csrn bench. They compare times within one run, because machines differ and are noisy."""
