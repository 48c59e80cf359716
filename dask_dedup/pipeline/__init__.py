"""A run: scan, check, plan, decide, write, commit."""
