"""The closed form of Eq. 3 on a CPU by ``native_closed_form.c``, called with the addresses of tensors.

Takes the place of :mod:`dainv_kernels.closed_form`, which does the work wherever this cannot: float16 features, which
few compilers vectorise, tensors that are not plain memory, and no compiler where a graph was compiled for this.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dainv_kernels import closed_form
from dainv_kernels.groups import Segments
from dainv_kernels.implementation import Gradient, Relu, Sums
from dainv_kernels.layout import accumulator_dtype
from dainv_kernels.native_build import BuildError, library

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_TABLES = (torch.int64, torch.int64, torch.int64, torch.float64)
_NO_GROUPS = "groups: these tables do not divide the batch; expected Groups.from_ids() or Groups.consecutive()"
_WIDEST_TILE = 4096  # bytes of accumulators, as in the C file: what is kept of a tile's columns stays near the core
_GROUP_IN_CACHE = 1 << 18  # bytes of a group's rows of a tile, which the backward pass reads twice
_FEWEST_TILES = 32  # as many threads find work where there are columns enough
_COLUMNS = 64  # tiles are multiples of so many columns
_GRAIN = 1 << 15  # fewer features than this are not worth waking a thread for; torch's own measure


def why_not() -> str | None:
    """Why this does not work here; None if it does. Compiles the library if need be."""
    found = library(torch.float32)
    return str(found) if isinstance(found, BuildError) else None


def forward(rows: Tensor, segments: Segments, relu: Relu | None = None) -> Sums:
    """As :meth:`dainv_kernels.implementation.Implementation.forward`."""
    activation, bias, inner, n_channels = relu or (None, None, 1, 1)
    dtype = accumulator_dtype(rows.dtype)
    channels = None if bias is None else bias.to(dtype).contiguous()
    functions = _functions(rows, activation, (channels, dtype))
    if functions is None:
        return closed_form.forward(rows, segments, relu)
    tile = _tile(rows, 1)
    mean_offset = torch.empty(rows.shape[1], dtype=dtype, device=rows.device)
    partial = torch.empty(-(-rows.shape[1] // tile), 2, dtype=torch.float64, device=rows.device)
    sums, loss = partial.new_empty(2), mean_offset.new_empty(())
    done = functions.forward(
        *_inputs(rows, segments, tile), *_address_and_stride(activation), _address(channels), inner, n_channels,
        _address(mean_offset), _address(partial), _address(sums), _address(loss),
    )  # fmt: skip
    if not done:
        raise ValueError(_NO_GROUPS)
    _written(activation)
    return Sums(loss, sums, mean_offset)


def backward(rows: Tensor, segments: Segments, sums: Tensor, mean_offset: Tensor, gradient: Gradient) -> None:
    """As :meth:`dainv_kernels.implementation.Implementation.backward`."""
    grad_loss, out, upstream, relu = gradient
    factor = grad_loss.to(mean_offset.dtype)
    functions = _functions(rows, out, (upstream, rows.dtype), (factor, factor.dtype))
    if functions is None:
        closed_form.backward(rows, segments, sums, mean_offset, gradient)
        return
    largest = segments.views or int(segments.bounds.diff().max())
    done = functions.backward(
        *_inputs(rows, segments, _tile(rows, largest)), _address(factor), _address(sums), _address(mean_offset),
        *_address_and_stride(upstream), *_address_and_stride(out), relu,
    )  # fmt: skip
    if not done:
        raise ValueError(_NO_GROUPS)
    _written(out)


def _functions(rows: Tensor, written: Tensor | None, *read: tuple[Tensor | None, torch.dtype]) -> ctypes.CDLL | None:
    """The library for these tensors; None where they are not what it takes."""
    if rows.dtype not in _DTYPES:
        return None
    tensors = (rows, rows.dtype), (written, rows.dtype), *read
    if not all(_is_plain(tensor, dtype) for tensor, dtype in tensors if tensor is not None):
        return None
    found = library(rows.dtype)
    return None if isinstance(found, BuildError) else found


def _is_plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor is what lies at its address, and no subclass knows better (fake and distributed tensors)."""
    return (
        type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and tensor.dtype == dtype
        and tensor.device.type == "cpu"
        and not tensor.is_neg()
        and not tensor._is_zerotensor()  # which has no memory
    )


def _tile(rows: Tensor, largest: int) -> int:
    """Columns of a tile, by shape alone: sums are added up tile by tile, and must not depend on the machine.

    Args:
        rows: ``(B, D)``.
        largest: the number of rows that are read twice, one after the other.
    """
    features = rows.shape[1]
    columns = min(
        _WIDEST_TILE // accumulator_dtype(rows.dtype).itemsize,
        features // _FEWEST_TILES + _COLUMNS,
        _GROUP_IN_CACHE // (largest * rows.dtype.itemsize),
    )
    return max(_COLUMNS, columns // _COLUMNS * _COLUMNS)


def _inputs(rows: Tensor, segments: Segments, tile: int) -> tuple[int | None, ...]:
    """What both functions are told first.

    Raises:
        ValueError: tables that are not as :class:`Groups` describes them. The numbers in them are for C to check.
    """
    threads = torch.get_num_threads() if rows.numel() > _GRAIN else 1
    batch, features = rows.shape
    tables = (segments.rows, segments.bounds, segments.n_groups, segments.weights)
    shapes = ((batch,), (batch + 1,), (), (batch,))
    for table, shape, dtype in zip(tables, shapes, _TABLES, strict=True):
        if not (table.dtype == dtype and table.shape == shape and table.is_cpu and table.is_contiguous()):
            raise ValueError(_NO_GROUPS)
    return *_address_and_stride(rows), batch, features, *map(_address, tables), tile, threads


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _address_and_stride(rows: Tensor | None) -> tuple[int | None, int]:
    return (None, 0) if rows is None else (rows.data_ptr(), rows.stride(0))


def _written(tensor: Tensor | None) -> None:
    """Tell autograd, which does not see the library at work."""
    if tensor is not None and not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)
