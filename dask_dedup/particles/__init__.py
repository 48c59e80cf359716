"""From a particle table to picks: columns, geometry, checks."""
