"""What the Triton kernels take of GPUs."""
