"""Names that settings are chosen from. Nothing is imported here, so that help need not wait for torch."""

CHECKPOINTS = ("newest", "best")  # of a run: which one to read
SCHEMES = ("exponential", "linear", "uniform")  # how the weights of Eq. 4 grow with depth
STREAMING = ("auto", "always", "never")  # whether the images of a folder are decoded when they are asked for
