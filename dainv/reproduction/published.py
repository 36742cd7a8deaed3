"""What was published. The only numbers in this package that were typed in; each table says where they are from."""

from __future__ import annotations

import numpy as np

from dainv.summaries import Box

EPOCHS = 350  # Section 2.1
LAYERS = tuple(f"layer{number}" for number in range(1, 10))
BASELINE, INVARIANCE = "baseline", "invariance"
ARMS = (BASELINE, INVARIANCE)

# Section 3: test accuracy in percent, one run each. The first author's thesis (arXiv 2012.14185) gives 91.48 and 92.47.
ACCURACY = {BASELINE: 91.5, INVARIANCE: 92.2}
THESIS_ACCURACY = {BASELINE: 91.48, INVARIANCE: 92.47}

# Section 3: "the training time is only increased by about 10 %"
OVERHEAD_PERCENT = 10.0


# Figure 1, layers 1 to 9; read off the authors' image of it, good to about .003
SCORES = {
    BASELINE: (
        Box(0.301, 0.485, 0.616, -0.17, 0.97),
        Box(0.108, 0.374, 0.522, -0.51, 0.95),
        Box(0.218, 0.408, 0.540, -0.27, 0.96),
        Box(0.264, 0.425, 0.537, -0.15, 0.93),
        Box(0.329, 0.460, 0.555, -0.01, 0.89),
        Box(0.355, 0.483, 0.572, 0.03, 0.90),
        Box(0.373, 0.500, 0.586, 0.05, 0.90),
        Box(0.356, 0.478, 0.566, 0.04, 0.87),
        Box(0.383, 0.509, 0.620, 0.03, 0.95),
    ),
    INVARIANCE: (
        Box(0.423, 0.567, 0.682, 0.03, 0.98),
        Box(0.320, 0.491, 0.615, -0.12, 0.97),
        Box(0.440, 0.590, 0.707, 0.04, 0.97),
        Box(0.744, 0.866, 0.923, 0.47, 1.0),
        Box(0.838, 0.951, 0.979, 0.62, 1.0),
        Box(0.871, 0.959, 0.981, 0.70, 1.0),
        Box(0.915, 0.982, 0.996, 0.79, 1.0),
        Box(0.920, 0.985, 0.998, 0.80, 1.0),
        Box(0.495, 0.617, 0.712, 0.17, 0.97),
    ),
}
SCORES_READ_TO = 0.003

# Figure 2: invariance loss, a row a layer; read off the figure's colours, good to about .01. Values are means over the
# training batches of an epoch, and epochs are counted from 0: epoch 0 there is the first epoch, 1 in a run directory.
DYNAMICS_EPOCHS = (0, 1, 3, 5, 10, 25, 50, 100, 200, 349)
DYNAMICS = {
    BASELINE: np.array(
        [
            [0.51, 0.45, 0.34, 0.41, 0.43, 0.50, 0.53, 0.53, 0.56, 0.55],
            [0.48, 0.37, 0.27, 0.36, 0.41, 0.56, 0.64, 0.69, 0.71, 0.70],
            [0.45, 0.34, 0.24, 0.32, 0.47, 0.66, 0.74, 0.79, 0.80, 0.79],
            [0.42, 0.33, 0.22, 0.40, 0.63, 0.78, 0.83, 0.85, 0.85, 0.84],
            [0.41, 0.31, 0.21, 0.44, 0.66, 0.78, 0.81, 0.83, 0.83, 0.82],
            [0.39, 0.31, 0.18, 0.41, 0.58, 0.68, 0.73, 0.77, 0.77, 0.76],
            [0.38, 0.29, 0.15, 0.32, 0.46, 0.57, 0.64, 0.69, 0.71, 0.70],
            [0.37, 0.30, 0.15, 0.31, 0.41, 0.54, 0.62, 0.68, 0.73, 0.72],
            [0.36, 0.30, 0.14, 0.28, 0.34, 0.46, 0.52, 0.57, 0.61, 0.61],
        ]
    ),
    INVARIANCE: np.array(
        [
            [0.46, 0.36, 0.31, 0.32, 0.43, 0.51, 0.54, 0.53, 0.55, 0.54],
            [0.34, 0.25, 0.24, 0.26, 0.39, 0.57, 0.65, 0.67, 0.66, 0.65],
            [0.26, 0.22, 0.22, 0.23, 0.38, 0.61, 0.67, 0.62, 0.54, 0.52],
            [0.22, 0.18, 0.18, 0.22, 0.47, 0.64, 0.54, 0.33, 0.23, 0.23],
            [0.19, 0.16, 0.15, 0.18, 0.47, 0.45, 0.27, 0.18, 0.15, 0.15],
            [0.17, 0.14, 0.14, 0.15, 0.34, 0.32, 0.18, 0.14, 0.12, 0.12],
            [0.14, 0.11, 0.10, 0.10, 0.25, 0.22, 0.11, 0.09, 0.07, 0.07],
            [0.14, 0.11, 0.10, 0.10, 0.26, 0.26, 0.11, 0.08, 0.06, 0.06],
            [0.14, 0.12, 0.11, 0.10, 0.23, 0.34, 0.45, 0.49, 0.54, 0.55],
        ]
    ),
}
DYNAMICS_READ_TO = 0.01
