"""How many threads the numerical libraries use.

Threads of one product of matrices wait for each other. Where another thread or process has a core,
they wait until it lets go: products that take microseconds then take up to a tenth of a second.
"""

from __future__ import annotations

from threadpoolctl import ThreadpoolController

__all__ = ["limit_blas"]


def limit_blas(threads: int) -> None:
    """Let NumPy's and SciPy's products of matrices use so many threads in this process.

    Products of torch are not concerned: they follow ``torch.set_num_threads``. Nothing changes
    where NumPy does not bring OpenBLAS along, as on macOS.

    Args:
        threads: 1 or more.
    """
    ThreadpoolController().select(internal_api="openblas").limit(limits=threads)
