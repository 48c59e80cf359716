"""Read and write the pick files of many programs. The lines of picks are written unchanged."""
