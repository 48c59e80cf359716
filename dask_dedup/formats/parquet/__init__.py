"""Parquet files, folders and hive-partitioned folders."""
