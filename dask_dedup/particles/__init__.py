"""Extraction of picks from particle tables: column names, positions and checks."""
