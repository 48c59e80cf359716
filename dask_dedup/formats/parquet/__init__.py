"""Read and write Parquet tables."""
