"""CryoSPARC ``.cs`` tables and ``.csg`` groups."""
