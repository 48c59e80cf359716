"""Broken files without end for the readers; see docs/contributing/fuzzing.md."""
