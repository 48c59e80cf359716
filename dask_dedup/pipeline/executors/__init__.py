"""Where the stages run: threads or a Dask cluster."""
