"""Import zennit where torchvision's compiled part does not load.

zennit imports torchvision for two class names. torchvision's Python part registers fake kernels
for its compiled operators and stops with ``operator torchvision::nms does not exist`` when its
library was built for another torch, such as a CPU-only torch beside the PyPI wheel of torchvision.
None of these operators is ever called, so declaring their schemas is enough.

Import this module before anything of zennit.
"""

from __future__ import annotations

import torch

from ...errors import ModelError

__all__: list[str] = []

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")


def _import_torchvision() -> None:
    try:
        import torchvision.models.resnet
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    for operator in _OPERATORS:
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    try:
        import torchvision.models.resnet  # noqa: F401
    except (RuntimeError, ImportError) as error:
        raise ModelError(
            f"torchvision does not fit torch {torch.__version__} ({error}); install the "
            "torchvision made for it (pip install --upgrade torch torchvision)"
        ) from error


_import_torchvision()
