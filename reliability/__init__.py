"""Long tests that try to break a run; random, and repeatable by their seed."""
