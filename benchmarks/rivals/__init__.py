"""Scripts that a good user would write: each takes INPUT... OUTPUT and writes kept and rejected."""
