"""What the objective adds to a step that is recorded as a CUDA graph, compiled or not."""
