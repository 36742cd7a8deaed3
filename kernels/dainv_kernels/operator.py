"""The public operator: checks what came, views it as rows and hands it to a backend."""

from __future__ import annotations

from torch import Tensor

from dainv_kernels import reference, registration
from dainv_kernels.backends import choose_backend
from dainv_kernels.groups import NORMALIZATIONS, Groups
from dainv_kernels.layout import as_features, sample_rows


def invariance_loss(
    features: Tensor, groups: Tensor | Groups, *, normalization: str = "pairs", backend: str = "auto"
) -> Tensor:
    """Data augmentation invariance loss of one layer (Eq. 3).

    The mean squared distance between samples of the same group over that between any samples of the batch: 0 where
    the views of each image are represented alike, about 1 where the groups mean nothing to the layer.

    Args:
        features: ``(B, ...)`` activations; float16, bfloat16, float32 or float64, in any layout. B is the number of
            samples, D the number of features of each.
        groups: ``(B,)`` integer ids (source images, class labels, ...) in any order, or a
            :class:`~dainv_kernels.Groups`, which several layers can share.
        normalization: ``"pairs"``, means over distinct pairs, which depends neither on B nor on the group size as the
            paper's text says; or ``"printed"``, Eq. 3 to the letter: a sum over groups with self-pairs counted.
        backend: ``"reference"`` (explicit pairs), ``"torch"`` or ``"triton"`` (closed form), or ``"auto"``.

    Returns:
        0-d loss, dimensionless, float32 (float64 for float64 features). 0 with zero gradient where all samples are
        equal or no group has two samples; NaN where a feature is NaN or infinite.

    Raises:
        TypeError: features not floating-point or groups not integer.
        ValueError: shapes that do not fit together, fewer than two samples, unknown normalization or backend.
        RuntimeError: the backend asked for does not work on this machine.

    Example:
        >>> import torch
        >>> from dainv_kernels import invariance_loss
        >>> views = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> invariance_loss(views, torch.tensor([0, 0, 1, 1])).item()
        0.0
    """
    rows, groups, backend = _checked(features, groups, normalization, backend)
    if backend == "reference":
        return reference.invariance_loss(rows, groups.ids(), normalization)
    loss: Tensor = registration.invariance(
        *(rows, groups.rows, groups.bounds, groups.n_groups, groups.weights(normalization)), groups.views, backend
    )[0]
    return loss


def relu_invariance(
    x: Tensor, groups: Tensor | Groups, *, normalization: str = "pairs", backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """ReLU, and the invariance loss of what comes out of it (Eq. 3), as one operation.

    The same as ``y = relu(x); loss = invariance_loss(y, groups)``, with the sums taken while the activation is written
    and both gradients combined while that of x is: no pass over memory is added to what ReLU itself costs. Has first
    derivatives only, except with backend ``"reference"``.

    Args:
        x: ``(B, ...)`` pre-activations; see :func:`invariance_loss` for this and the other arguments.
        groups: see :func:`invariance_loss`.
        normalization: see :func:`invariance_loss`.
        backend: see :func:`invariance_loss`.

    Returns:
        The activation, in the shape and dtype of x and in its layout where that is dense; and the 0-d loss.

    Raises:
        TypeError: as :func:`invariance_loss`.
        ValueError: as :func:`invariance_loss`.
        RuntimeError: as :func:`invariance_loss`.
    """
    rows, groups, backend = _checked(x, groups, normalization, backend)
    if backend == "reference":
        activation = rows.relu()
        loss = reference.invariance_loss(activation, groups.ids(), normalization)
    else:
        activation, loss, _, _ = registration.relu_invariance(
            *(rows, groups.rows, groups.bounds, groups.n_groups, groups.weights(normalization)), groups.views, backend
        )
    return as_features(activation, like=x), loss


def _checked(features: Tensor, groups: Tensor | Groups, normalization: str, backend: str) -> tuple[Tensor, Groups, str]:
    """Features as rows, ids as groups, and the backend to run; what does not fit is refused here."""
    rows = sample_rows(features)
    if not isinstance(groups, Groups):
        groups = Groups.from_ids(groups)
    if len(groups) != rows.shape[0]:
        raise ValueError(
            f"groups: expected one id for each of the {rows.shape[0]} samples of features, got {len(groups)}"
        )
    if rows.shape[0] < 2:
        raise ValueError(f"features: expected at least 2 samples, got shape {tuple(features.shape)}")
    if groups.rows.device != rows.device:
        raise ValueError(f"groups: expected on the device of the features, {rows.device}, got {groups.rows.device}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
    return rows, groups, choose_backend(backend, rows)
