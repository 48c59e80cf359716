"""Read and write CryoSPARC's ``.cs`` tables (NumPy or CSDAT files) and ``.csg`` groups."""
