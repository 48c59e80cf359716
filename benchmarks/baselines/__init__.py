"""Scripts that an experienced user would write. Each takes INPUT... OUTPUT and writes kept and rejected particles."""
