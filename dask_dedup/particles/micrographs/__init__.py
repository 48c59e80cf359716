"""Names and keys of micrographs, and the micrograph table."""
