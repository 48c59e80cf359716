"""Benchmarks: generated tables, what users would run instead, and one command that compares them."""
