"""Broken files without end for the readers; see docs/fuzzing.md."""
