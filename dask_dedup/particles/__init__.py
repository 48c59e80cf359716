"""Extraction of picks from particle tables: columns, geometry, checks."""
