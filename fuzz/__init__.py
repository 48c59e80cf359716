"""Fuzzing of the readers with damaged files; see docs/contributing/fuzzing.md."""
