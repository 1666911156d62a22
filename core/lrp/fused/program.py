"""What a network does, as a list of operations that the fused engine has rules for.

A :class:`Program` is in single-assignment form: value 0 is the input, and the output of operation
``k`` is value ``k + 1``. Shapes leave the frame axis out. :mod:`.lower` makes programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = [
    "Add",
    "AveragePool",
    "Convolution",
    "Dense",
    "Flatten",
    "MaxPool",
    "Operation",
    "Program",
    "Rectify",
    "Value",
    "forward",
]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the network.

    Attributes:
        shape: of one frame: ``(C, H, W)``, or ``(N,)`` after flattening.
        nonnegative: whether its entries are at least 0 for any input of the network.
    """

    shape: tuple[int, ...]
    nonnegative: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation of the program.

    Attributes:
        sources: numbers of the values it reads.
    """

    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Convolution(Operation):
    """2-D convolution with zero padding.

    Attributes:
        weight: ``(out, in / groups, kh, kw)``.
        bias: ``(out,)`` or None.
        stride, padding, dilation: rows and columns.
        groups: number of groups.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class Dense(Operation):
    """Dense layer on a flat value.

    Attributes:
        weight: ``(out, in)``.
        bias: ``(out,)`` or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Rectify(Operation):
    """ReLU."""


@dataclass(frozen=True, slots=True, eq=False)
class MaxPool(Operation):
    """Max-pooling; of equal entries of a window the first counts as the maximum.

    Attributes:
        kernel, stride, padding, dilation: rows and columns.
        ceil: whether windows may begin inside and end outside.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    ceil: bool

    @property
    def tiles(self) -> bool:
        """Whether windows neither overlap nor leave the input."""
        return (
            self.kernel == self.stride
            and self.padding == (0, 0)
            and self.dilation == (1, 1)
            and not self.ceil
        )


@dataclass(frozen=True, slots=True, eq=False)
class AveragePool(Operation):
    """Average pooling of any kind, as two products: ``rows @ x @ columnsᵀ``.

    Attributes:
        rows: ``(H_out, H_in)`` share of each input row in each output row.
        columns: ``(W_out, W_in)`` the same for columns.
        tile: sides of the windows if they are equal, do not overlap and do not leave the input;
            None otherwise.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    tile: tuple[int, int] | None


@dataclass(frozen=True, slots=True, eq=False)
class Add(Operation):
    """Sum of two values of one shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Flatten(Operation):
    """``(C, H, W)`` → ``(C·H·W,)``, channel by channel."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A network for inputs of one shape.

    Attributes:
        values: the input, then the output of each operation.
        operations: in running order; the output of the last one is the logits.
        first: number of the operation that gets the flat rule, which is the first layer with
            weights to run; None if the logits do not depend on that layer.
    """

    values: tuple[Value, ...]
    operations: tuple[Operation, ...]
    first: int | None

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.values[-1].shape[0]

    def cut(self, side: int) -> int | None:
        """Return the first value of at most ``side`` rows and columns that all relevance passes.

        None if the program has no such value.
        """
        last_readers = list(range(len(self.values)))  # per value, the last output computed from it
        for output, operation in enumerate(self.operations, start=1):
            for source in operation.sources:
                last_readers[source] = output
        reach = 0  # the last output computed from any earlier value
        for number, value in enumerate(self.values):
            if reach <= number and len(value.shape) == 3 and max(value.shape[1:]) <= side:
                return number
            reach = max(reach, last_readers[number])
        return None

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Run the program forward, without rules.

        Args:
            x: ``(B, C, H, W)`` of the program's shape and dtype.

        Returns:
            ``(B, A)``.
        """
        values = [x]
        for operation in self.operations:
            values.append(forward(operation, [values[source] for source in operation.sources]))
        return values[-1]


def forward(operation: Operation, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the output of an operation for its inputs, ``(B, …)`` each."""
    x = inputs[0]
    match operation:
        case Convolution() as conv:
            return F.conv2d(
                x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
            )
        case Dense(weight=weight, bias=bias):
            return F.linear(x, weight, bias)
        case Rectify():
            return F.relu(x)
        case MaxPool() as pool:
            return F.max_pool2d(x, pool.kernel, pool.stride, pool.padding, pool.dilation, pool.ceil)
        case AveragePool(rows=rows, columns=columns):
            return rows @ x @ columns.T
        case Add():
            return x + inputs[1]
        case Flatten():
            return x.flatten(1)
    raise TypeError(f"no forward pass for {type(operation).__name__}")
