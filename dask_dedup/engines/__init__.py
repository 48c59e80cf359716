"""Where the stages run: inside this process, or on a Dask cluster."""
