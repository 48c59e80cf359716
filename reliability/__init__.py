"""Long stress tests of runs. They are random, and the same seed repeats them."""
