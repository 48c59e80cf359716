"""Progress of a run, in the terminal and on the Dask dashboard."""
