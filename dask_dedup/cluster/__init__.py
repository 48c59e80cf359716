"""Dask clusters: connect to one, or start one on this machine or with SLURM."""
