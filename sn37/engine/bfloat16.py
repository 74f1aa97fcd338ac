"""The product of two bfloat16 matrices with its sums in float32, on a CPU with instructions for it (AVX512-BF16).

PyTorch's own product on a CPU rounds every sum to bfloat16, and its float32 product is half as fast as these
instructions. The kernel that does both well comes with PyTorch, which calls it from the code it compiles, but no public
function reaches it. It is called here by its C++ name, which spells the types of its arguments, and only in the
version of PyTorch it was tried in; wherever anything is missing, `is_available` says so and a caller
multiplies float32 instead.

Knows nothing of models. Shapes and types are checked here, since the kernel checks nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["is_available", "laid_out", "product"]

_TRIED_IN = "2.13."
_KERNEL = "_ZN2at6native7cpublas6brgemmEllllllbPKN3c108BFloat16ES5_Pfb"
_RESTRICTIONS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that keep oneDNN from the processor's instructions; the kernel would then end the process."""

_DEPTH = 256
"""How many of a sum's terms are multiplied at a time: what is multiplied stays near, and the sums are more exact."""


def is_available(matrix: torch.Tensor) -> bool:
    """Whether `product` takes a matrix (N, H) or (W, H) like this one, on this machine and in this process."""
    kind = (matrix.dtype, matrix.device.type, matrix.shape[1] % 2)
    return kind == (torch.bfloat16, "cpu", 0) and bool(torch.backends.mkldnn.enabled) and _kernel() is not None


def laid_out(weight: torch.Tensor) -> torch.Tensor:
    """The weight (W, H) in bfloat16, H even, in the order `product` reads it in: (H / 2, W, 2)."""
    pairs = weight.contiguous().view(torch.int32)  # (W, H / 2), moved as one
    return pairs.T.contiguous().view(torch.bfloat16).view(*reversed(pairs.shape), 2)


def product(hidden: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """hidden (N, H) in bfloat16 times a weight (W, H) that is `laid_out`, into `out` (N, W) in float32.

    Runs on the calling thread alone and lets others run meanwhile. Raises ValueError for other shapes or types.
    """
    (rows, depth), words = hidden.shape, weight.shape[1]
    if weight.shape != (depth // 2, words, 2) or depth % 2 or out.shape != (rows, words):
        shapes = ", ".join(str(tuple(values.shape)) for values in (hidden, weight, out))
        raise ValueError(f"the shapes are {shapes}; expected (N, H), (H / 2, W, 2), (N, W)")
    for values, dtype in ((hidden, torch.bfloat16), (weight, torch.bfloat16), (out, torch.float32)):
        if values.dtype != dtype or values.device.type != "cpu" or not values.is_contiguous():
            raise ValueError(f"a matrix is {values.dtype} on {values.device}; expected {dtype}, contiguous, on a CPU")
    kernel = _kernel()
    if kernel is None or not is_available(hidden):
        raise RuntimeError("this machine or process has no such product; ask is_available before")
    for first in range(0, depth, _DEPTH):
        kernel(
            *(rows, words, min(_DEPTH, depth - first), depth, words, words, first > 0),
            *(hidden.data_ptr() + 2 * first, weight.data_ptr() + 2 * first * words, out.data_ptr(), True),
        )


@functools.cache
def _kernel() -> Callable[..., None] | None:
    """brgemm(rows, columns, depth, three leading dimensions, whether to add, a, b, sums, whether b is laid out)."""
    features = torch.cpu.get_capabilities()
    if not features.get("avx512_bf16") or features.get("amx_bf16"):
        return None  # with AMX it would hold state of the processor: not tried
    if not torch.__version__.startswith(_TRIED_IN) or any(name in os.environ for name in _RESTRICTIONS):
        return None
    try:
        kernel = getattr(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")), _KERNEL)
    except (OSError, AttributeError):
        return None
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_bool
    kernel.argtypes = [*(6 * [size]), flag, pointer, pointer, pointer, flag]
    kernel.restype = None
    return kernel  # type: ignore[no-any-return]
