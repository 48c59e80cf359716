"""Read and write RELION's STAR files."""
