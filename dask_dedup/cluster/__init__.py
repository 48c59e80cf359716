"""Dask clusters: connect to one, start one, on this machine or with SLURM."""
