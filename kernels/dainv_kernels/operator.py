"""The public operator: checks what came, views it as rows and hands it to a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dainv_kernels import autograd, distributed, pairwise, reference
from dainv_kernels.backends import choose_backend
from dainv_kernels.groups import NORMALIZATIONS, Groups
from dainv_kernels.layout import check_features, sample_rows

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup


def invariance_loss(
    features: Tensor,
    groups: Tensor | Groups,
    *,
    normalization: str = "pairs",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """Data augmentation invariance loss of one layer (Eq. 3).

    The mean squared distance between samples of the same group over that between any samples of the batch: 0 where
    the views of each image are represented alike, about 1 where the groups mean nothing to the layer.

    Args:
        features: ``(B, ...)`` activations; float16, bfloat16, float32 or float64, in any layout. B is the number of
            samples, D the number of features of each. Read where they lie if each sample is dense in itself, as in
            channels_last or a slice of a batch; otherwise (every other pixel, broadcast channels) from a copy.
        groups: ``(B,)`` integer ids (source images, class labels, ...) in any order, or a
            :class:`~dainv_kernels.Groups`, which several layers can share.
        normalization: ``"pairs"``, means over distinct pairs, which depends neither on B nor on the group size as the
            paper's text says; or ``"printed"``, Eq. 3 to the letter: a sum over groups with self-pairs counted.
        backend: ``"torch"``, ``"native"`` or ``"triton"`` (closed form), ``"reference"`` or ``"triton-pairwise"``
            (explicit pairs), or ``"auto"``: on a GPU Triton, on a CPU native, and torch where these do not work. The
            native kernel is compiled when it is first needed, which takes about a second, and kept for next time.
        process_group: the processes among which the batch is dealt, such as ``torch.distributed.group.WORLD`` once
            that is initialised; each calls this with its own samples, in the same order of layers. The loss is then
            that of the joined batch, the same in all to the bit. A group's samples have to be in one process: ids
            mean something there only. The gradient is the number of processes times the derivative of the joined
            loss, as that of an autograd-aware sum over processes with equal upstream gradients is, so that the
            average that ``DistributedDataParallel`` takes is the gradient of the joined batch. First derivatives
            and closed forms only; ``torch.compile`` breaks its graph here.

    Returns:
        0-d loss, dimensionless, float32 (float64 for float64 features). 0 with zero gradient where all samples are
        equal or no group has two samples; NaN where a feature is NaN or infinite.

    Raises:
        TypeError: features not floating-point or not dense, or groups not integer.
        ValueError: shapes that do not fit together, fewer than two samples (in several processes one will do),
            unknown normalization or backend.
        RuntimeError: the backend asked for does not work on this machine.

    Example:
        >>> import torch
        >>> from dainv_kernels import invariance_loss
        >>> views = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> invariance_loss(views, torch.tensor([0, 0, 1, 1])).item()
        0.0
    """
    groups, backend = _checked(features, groups, normalization, backend, process_group)
    if process_group is not None:
        return distributed.invariance(features, groups, normalization, backend, process_group)
    if backend == "reference":
        return reference.invariance_loss(sample_rows(features), groups.ids(), normalization)
    return autograd.invariance(features, groups.segments(normalization), backend)


def relu_invariance(
    x: Tensor,
    groups: Tensor | Groups,
    *,
    bias: Tensor | None = None,
    inplace: bool = False,
    normalization: str = "pairs",
    backend: str = "auto",
    process_group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """ReLU, and the invariance loss of what comes out of it (Eq. 3), as one operation.

    The same as ``y = relu(x + bias); loss = invariance_loss(y, groups)``, with the sums taken while the activation is
    written and both gradients combined while that of x is: no pass over memory is added to what ReLU itself costs.

    Args:
        x: ``(B, ...)`` pre-activations; see :func:`invariance_loss` for this and the other arguments.
        groups: see :func:`invariance_loss`.
        bias: ``(C,)``, added along dimension 1 of x before the ReLU, as a convolution without bias leaves it to do.
        inplace: write the activation over x, and the gradient of x over that of the activation. For a ReLU between
            two layers that both do not look back at x or at the gradient, as between two convolutions; wrong where
            anything else keeps them (``retain_grad``, a hook that stores gradients, an addition of the activation).
        normalization: see :func:`invariance_loss`.
        backend: see :func:`invariance_loss`.
        process_group: see :func:`invariance_loss`.

    Returns:
        The activation, in the shape and dtype of x and in its layout where that is dense; and the 0-d loss.

    Raises:
        TypeError: as :func:`invariance_loss`.
        ValueError: as :func:`invariance_loss`; or the bias does not have one value a channel.
        RuntimeError: as :func:`invariance_loss`.
    """
    groups, backend = _checked(x, groups, normalization, backend, process_group)
    if bias is not None:
        _check_bias(bias, x)
    if process_group is not None:
        return distributed.relu_invariance(x, bias, groups, normalization, backend, inplace, process_group)
    if backend == "reference":
        if bias is not None:
            shift = bias.view(-1, *[1] * (x.ndim - 2))
            x = x.add_(shift) if inplace else (x + shift).to(x.dtype)
        activation = x.relu_() if inplace else x.relu()
        return activation, reference.invariance_loss(sample_rows(activation), groups.ids(), normalization)
    return autograd.relu_invariance(x, bias, groups.segments(normalization), backend, inplace)


def pairwise_mse(features: Tensor, *, backend: str = "auto") -> Tensor:
    """Mean squared difference between the features of every two samples (Eq. 1), the field's squared-Euclidean RDM.

    Computed from differences, never from ``|x|^2 - 2 x.y + |y|^2``: the diagonal is exactly zero, the matrix exactly
    symmetric, and a large mean costs no digits.

    Args:
        features: ``(B, ...)`` floating-point features; D is the product of the trailing sizes.
        backend: ``"reference"``, ``"triton-pairwise"``, or ``"auto"``: the latter on a GPU.

    Returns:
        ``(B, B)`` matrix of d(x_i, x_j), float32 (float64 for float64 features), in squared units of the features.

    Raises:
        TypeError: features is not a dense floating-point tensor.
        ValueError: features has fewer than two dimensions or no element; or a backend without pairs.
        RuntimeError: the backend asked for does not work on this machine.
    """
    check_features(features)
    if backend == "auto":
        backend = "triton-pairwise" if choose_backend("auto", features) == "triton" else "reference"
    if backend not in ("reference", "triton-pairwise"):
        raise ValueError(f"backend: expected 'auto', 'reference' or 'triton-pairwise', got {backend!r}")
    if choose_backend(backend, features) == "reference":
        return reference.pairwise_mse(sample_rows(features))
    return pairwise.pairwise_mse(features)


def _check_bias(bias: Tensor, x: Tensor) -> None:
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        kind = f"a {bias.dtype} tensor" if isinstance(bias, Tensor) else type(bias).__name__
        raise TypeError(f"bias: expected a floating-point tensor of shape (C,), got {kind}")
    if bias.shape != x.shape[1:2]:
        raise ValueError(f"bias: expected shape {tuple(x.shape[1:2])}, one value a channel, got {tuple(bias.shape)}")
    if bias.device != x.device:
        raise ValueError(f"bias: expected on the device of the features, {x.device}, got {bias.device}")


def _checked(
    features: Tensor,
    groups: Tensor | Groups,
    normalization: str,
    backend: str,
    process_group: ProcessGroup | None,
) -> tuple[Groups, str]:
    """The groups, and the backend to run; what does not fit is refused here."""
    check_features(features)
    batch = features.shape[0]
    if not isinstance(groups, Groups):
        groups = Groups.from_ids(groups)
    if len(groups) != batch:
        raise ValueError(f"groups: expected one id for each of the {batch} samples of features, got {len(groups)}")
    if batch < 2 and process_group is None:
        raise ValueError(f"features: expected at least 2 samples, got shape {tuple(features.shape)}")
    if groups.rows.device != features.device:
        raise ValueError(f"groups: expected on the device of the features, {features.device}, got {groups.rows.device}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
    return groups, choose_backend(backend, features)
