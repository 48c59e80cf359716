"""The deduplication algorithm, on NumPy arrays.

The rule: take the particles of a micrograph from the best rank to the worst. Keep a particle if no kept particle
is within the separation. Otherwise reject it; its winner is the best-ranked kept particle within the separation.

================  =====================================================================================
`params`          the parameters of a run
`limits`          the parameters that are numbers, and their limits
`per_input`       the parameters that may differ between inputs
`score_field`     the score of an input, and its direction
`pick_columns`    the columns of a text table of picks
`renaming`        rules that change micrograph names
`picks`           the columns that a decision needs, one row per particle
`rank`            the total order: score, seeded hash, uid, row
`decide`          from picks to rejected particles and their winners
`greedy`          the rule, over pairs of close particles
`voting`          the pickers that vote, and the rule by which votes decide
`votes`           the votes of the particles that the rule keeps
`pairs`           search for close pairs: a sweep along x, or a KD-tree
`nearest`         the closest duplicate of each particle
`spacing`         the gap between the distances of duplicates and of real neighbours
`separation`      the kept particles at several separations at once, and the recommended separation
`vote_analysis`   the kept particles at several separations after votes
`coincident`      particles at exactly the same position, reduced to the best-ranked one
`arrays`          tables as NumPy arrays of equal length; distinct values, runs and look-ups
================  =====================================================================================

No loop runs over particles one by one. `greedy` needs only the pairs within the separation:

1. If particles are sparse, a sweep along x finds all pairs.
2. Otherwise each group of coincident particles is reduced to one particle. Then one KD-tree over all micrographs
   finds the pairs.
3. If the pairs do not fit in memory, blocks of particles are decided in rank order. The kept particles of a
   block reject all later particles within the separation. Kept particles are apart, so only a few of them are near
   any point. Therefore the work is linear in the number of particles, at any density.
"""
