"""What the objective adds to a training step, against every peer."""
