"""Names that settings are chosen from. Nothing is imported here, so that help need not wait for torch."""

BACKENDS = ("reference", "torch", "native", "triton", "triton-pairwise")  # of the operator, as in dainv_kernels
CHECKPOINTS = ("newest", "best")  # of a run: which one to read
SCHEMES = ("exponential", "linear", "uniform")  # how the weights of Eq. 4 grow with depth
STREAMING = ("auto", "always", "never")  # whether the images of a folder are decoded when they are asked for
