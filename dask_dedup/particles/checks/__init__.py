"""Checks of the scanned inputs: errors that stop a run, and warnings."""
