"""The steps of a run: scan, check, plan, decide, write, commit."""
