"""Benchmarks: generated tables, scripts that users would run instead, and a command that compares them."""
