"""RELION STAR files."""
