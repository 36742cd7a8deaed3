"""``dainv-bench scores``: the invariance score of Eq. 2 by streaming, by all pairs, and what it cannot do without."""
