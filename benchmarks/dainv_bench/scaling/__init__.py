"""``dainv-bench scaling``: how cost grows with B, M, D, L, N and the number of ranks."""
