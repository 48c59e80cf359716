"""Exact greedy suppression: pure NumPy and SciPy, arrays in, arrays out.

Walk the particles of a micrograph from the best rank to the worst; keep one if no kept particle lies within
the separation, else reject it in favour of the best-ranked kept one that does. Nothing here walks, though:

1. a sweep along x proposes the pairs where picks are sparse, and the exact distance decides;
2. the greedy order is resolved over the pairs in rounds, and by one pass over what a dozen rounds leave;
3. where there are too many pairs, rows at precisely one place are first collapsed into a pile that its best-ranked
   row stands for, and one KD-tree over all micrographs, laid side by side, proposes the pairs;
4. where all pairs at once would not fit, the particles are taken in blocks of descending rank: what a block keeps
   suppresses everything behind it. Kept particles are apart, so only a handful lie within reach of any point,
   and the work stays linear however dense the picks are.
"""
