"""The deduplication algorithm, on NumPy arrays.

The rule: take the particles of a micrograph from the best rank to the worst. Keep a particle if no kept particle
is within the separation. Otherwise reject it; its winner is the best-ranked kept particle within the separation.

================  =====================================================================================
`params`          the parameters of a run
`limits`          the numbers among them, and their limits
`per_input`       those that may differ between inputs
`score_field`     the score of an input, and its direction
`pick_columns`    the columns of a text table of picks
`renaming`        rules that change micrograph names
`picks`           the columns that a decision needs, one row per particle
`rank`            the total order: score, seeded hash, uid, row
`decide`          from picks to rejected particles and their winners
`greedy`          the rule, over pairs of close particles
`voting`          who votes, and which particles are kept for their votes
`votes`           the votes of the particles that the rule keeps
`pairs`           how close pairs are found: a sweep along x, or a KD-tree
`nearest`         the closest duplicate of each particle
`spacing`         the gap between the distances of duplicates and of real neighbours
`separation`      what is kept at several separations at once, and the recommended one
`vote_analysis`   the same after votes
`coincident`      particles at exactly the same position, reduced to the best-ranked one
`arrays`          tables as NumPy arrays of equal length; distinct values, runs and look-ups
================  =====================================================================================

No loop runs over particles one by one. `greedy` needs the pairs within the separation only:

1. Where particles are sparse, a sweep along x finds all pairs.
2. Otherwise coincident particles are reduced to one each, and one KD-tree over all micrographs finds the pairs.
3. Where the pairs do not fit in memory, blocks of particles are decided in rank order: the kept particles of a
   block reject all later particles within the separation. Kept particles are apart, so few of them are near any
   point, and the work stays linear in the number of particles however dense they are.
"""
