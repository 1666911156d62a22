"""Translate the nodes of a traced network into operations the fused engine has rules for.

A handler turns one kind of node into operations. Modules and functions share handlers: torch gives
the attributes of a module the names of the function's arguments. To support another layer, write a
handler and list it in the tables at the end.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from .program import (
    Add,
    AveragePool,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Operation,
    Rectify,
    Value,
)

__all__ = ["Translation", "UnsupportedStepError"]


class UnsupportedStepError(Exception):
    """A node cannot be translated; the text names it as the author of the network knows it."""


_Options = Mapping[str, Any]


class Translation:
    """A trace, and the operations translated from it so far.

    Args:
        graph: the trace.
        results: the result of each node for the example.
        example: ``(B, C, H, W)``.

    Attributes:
        nodes: in running order.
        output: the node whose result the network returns; None if it returns anything but the
            result of one node.
        values: see :class:`~.program.Program`.
        operations: see :class:`~.program.Program`.
    """

    def __init__(
        self, graph: fx.GraphModule, results: dict[fx.Node, Any], example: torch.Tensor
    ) -> None:
        self.nodes = [node for node in graph.graph.nodes if node.op != "output"]
        (last,) = (node for node in graph.graph.nodes if node.op == "output")
        self.output: fx.Node | None = last.args[0] if isinstance(last.args[0], fx.Node) else None
        self.values = [Value(tuple(example.shape[1:]))]
        self.operations: list[Operation] = []
        self._modules = dict(graph.named_modules())
        self._results = results
        self._frames = len(example)
        self._numbers: dict[fx.Node, int] = {}
        self._derived: set[fx.Node] = set()  # depend on the input, but have no value in the program

    def number(self, node: fx.Node | None) -> int | None:
        """Return the number of a node's value; None if it has none."""
        return None if node is None else self._numbers.get(node)

    def is_weighted(self, node: fx.Node) -> bool:
        """Tell whether a node runs a layer with weights."""
        kinds = (nn.modules.conv._ConvNd, nn.Linear)
        return node.op == "call_module" and isinstance(self._module(node), kinds)

    def translate(self, node: fx.Node) -> int | None:
        """Append the operations of one node.

        Returns:
            The number of its value; None for a constant or a shape.

        Raises:
            UnsupportedStepError: no operation of a program does the same.
        """
        if node.op == "placeholder" and not self._numbers:
            self._numbers[node] = 0
            return 0
        if node.op == "placeholder":
            raise UnsupportedStepError(f"a second input {node.name!r}")
        sources = node.all_input_nodes
        if not any(source in self._numbers or source in self._derived for source in sources):
            return None  # a constant, or a number derived from a shape
        if _reads_shape(node):
            return None
        # A node that follows one without an operation is not the cause of the failure.
        follows_failure = any(source in self._derived for source in sources)
        self._derived.add(node)
        handler, options = self._handler(node)
        if not follows_failure:
            self._numbers[node] = handler(self, node, options)
            self._derived.remove(node)
        return self._numbers.get(node)

    def _handler(self, node: fx.Node) -> tuple[_Handler, _Options]:
        """Return the handler of a node, and the node's options by name."""
        if node.op == "call_module":
            module = self._module(node)
            handler = _MODULES.get(type(module))
            if handler is None:
                raise UnsupportedStepError(self.label(node))
            return handler, {**module._parameters, **vars(module)}
        table = _METHODS if node.op == "call_method" else _FUNCTIONS
        if node.target not in table:
            raise UnsupportedStepError(self.label(node))
        handler, names = table[node.target]
        positional = dict(zip(names, node.args[1:], strict=False))
        return handler, {**_DEFAULTS, **positional, **node.kwargs}

    def _module(self, node: fx.Node) -> nn.Module:
        return self._modules[str(node.target)]

    def label(self, node: fx.Node) -> str:
        """Return the name of a node for a message."""
        if node.op == "call_module":
            return f"{type(self._module(node)).__name__} {str(node.target)!r}"
        name = getattr(node.target, "__name__", node.target)
        stack = node.meta.get("nn_module_stack")
        owner = next(reversed(stack.values()))[0] if stack else ""
        return f"{name}(…) in {owner!r}" if owner else f"{name}(…)"

    def source(self, node: fx.Node, position: int = 0) -> tuple[int, Value]:
        """Return the number of the value that a node reads as its n-th argument, and the value."""
        source = node.args[position] if position < len(node.args) else None
        if not isinstance(source, fx.Node) or source not in self._numbers:
            raise UnsupportedStepError(f"the arguments of {self.label(node)}")
        number = self._numbers[source]
        return number, self.values[number]

    def constant(self, node: fx.Node, argument: Any) -> Any:
        """Return an argument of a node that does not depend on the input."""
        if not isinstance(argument, fx.Node):
            return argument
        if argument in self._numbers or argument in self._derived:
            raise UnsupportedStepError(f"{self.label(node)} with weights made from the input")
        return self._results[argument]

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape of a node's result for one frame."""
        result = self._results[node]
        if not isinstance(result, torch.Tensor) or result.shape[:1] != (self._frames,):
            raise UnsupportedStepError(f"{self.label(node)}, which mixes frames")
        return tuple(result.shape[1:])

    def add(self, operation: Operation, shape: tuple[int, ...], nonnegative: bool = False) -> int:
        """Append an operation; return the number of its output value."""
        self.operations.append(operation)
        self.values.append(Value(shape, nonnegative))
        return len(self.operations)


_Handler = Callable[[Translation, fx.Node, _Options], int]


def _reads_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim")
    return node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return (int(value), int(value))


def _detached(weight: torch.Tensor | None) -> torch.Tensor | None:
    return None if weight is None else weight.detach()


def _identity(trace: Translation, node: fx.Node, options: _Options) -> int:
    return trace.source(node)[0]


def _convolution(trace: Translation, node: fx.Node, options: _Options) -> int:
    number, value = trace.source(node)
    dilation, kernel = options["dilation"], options["kernel_size"]
    padding = options["padding"]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = [span // 2 for span in spans]
        if any(span % 2 for span in spans):
            raise UnsupportedStepError(f"{trace.label(node)} with uneven padding")
    if options["padding_mode"] != "zeros" or len(value.shape) != 3:
        raise UnsupportedStepError(f"{trace.label(node)} with padding that is not zeros")
    conv = Convolution(
        sources=(number,),
        weight=options["weight"].detach(),
        bias=_detached(options["bias"]),
        stride=_pair(options["stride"]),
        padding=_pair(padding),
        dilation=_pair(dilation),
        groups=options["groups"],
    )
    return trace.add(conv, trace.shape(node))


def _dense(trace: Translation, node: fx.Node, options: _Options) -> int:
    if node.op == "call_function":
        # The reference engine attaches rules to modules and refuses a bare F.linear. In the forward
        # pass of a subclass of nn.Linear it stands for that module.
        stack = node.meta.get("nn_module_stack")
        owner = next(reversed(stack.values()))[1] if stack else None
        if not (isinstance(owner, type) and issubclass(owner, nn.Linear)):
            raise UnsupportedStepError(f"{trace.label(node)} outside nn.Linear")
    number, value = trace.source(node)
    if len(value.shape) != 1:
        raise UnsupportedStepError(f"{trace.label(node)} on values that are not flat")
    weight = trace.constant(node, options["weight"]).detach()
    bias = _detached(trace.constant(node, options["bias"]))
    return trace.add(Dense((number,), weight, bias), trace.shape(node))


def _rectify(trace: Translation, node: fx.Node, options: _Options) -> int:
    number, value = trace.source(node)
    return trace.add(Rectify((number,)), value.shape, nonnegative=True)


def _max_pool(trace: Translation, node: fx.Node, options: _Options) -> int:
    if options["return_indices"]:
        raise UnsupportedStepError(f"{trace.label(node)} that returns indices")
    number, value = trace.source(node)
    kernel = trace.constant(node, options["kernel_size"])
    pool = MaxPool(
        sources=(number,),
        kernel=_pair(kernel),
        stride=_pair(options["stride"] or kernel),
        padding=_pair(options["padding"]),
        dilation=_pair(options["dilation"]),
        ceil=bool(options["ceil_mode"]),
    )
    return trace.add(pool, trace.shape(node), value.nonnegative)


def _average_pool(trace: Translation, node: fx.Node, options: _Options) -> int:
    if options["divisor_override"] is not None:
        raise UnsupportedStepError(f"{trace.label(node)} with a divisor of its own")
    _, value = trace.source(node)
    kernel = _pair(trace.constant(node, options["kernel_size"]))
    stride = _pair(options["stride"] or kernel)
    padding = _pair(options["padding"])
    ceil, count_padding = options["ceil_mode"], options["count_include_pad"]
    rows, columns = (
        F.avg_pool1d(_units(size), kernel[i], stride[i], padding[i], ceil, count_padding)
        for i, size in enumerate(value.shape[1:])
    )
    tiles = kernel == stride and padding == (0, 0) and not ceil
    return _add_average(trace, node, rows, columns, kernel if tiles else None)


def _adaptive_average(trace: Translation, node: fx.Node, options: _Options) -> int:
    _, height, width = trace.source(node)[1].shape
    wanted = trace.constant(node, options["output_size"])
    wanted = wanted if isinstance(wanted, (tuple, list)) else (wanted, wanted)
    output_height, output_width = (
        size if output_size is None else output_size
        for output_size, size in zip(wanted, (height, width), strict=True)
    )
    rows = F.adaptive_avg_pool1d(_units(height), output_height)
    columns = F.adaptive_avg_pool1d(_units(width), output_width)
    even = height % output_height == 0 and width % output_width == 0
    tile = (height // output_height, width // output_width) if even else None
    return _add_average(trace, node, rows, columns, tile)


def _units(size: int) -> torch.Tensor:
    """Return unit vectors, whose pooled values are the shares of each entry."""
    return torch.eye(size, dtype=torch.float64)[None]


def _add_average(
    trace: Translation,
    node: fx.Node,
    rows: torch.Tensor,
    columns: torch.Tensor,
    tile: tuple[int, int] | None,
) -> int:
    number, value = trace.source(node)
    like = trace._results[node]
    rows, columns = rows[0].T.to(like), columns[0].T.to(like)
    shape = (value.shape[0], len(rows), len(columns))
    return trace.add(AveragePool((number,), rows, columns, tile), shape, value.nonnegative)


def _mean(trace: Translation, node: fx.Node, options: _Options) -> int:
    dims = options["dim"]
    spatial = isinstance(dims, (tuple, list)) and sorted(dim % 4 for dim in dims) == [2, 3]
    if not spatial or options["dtype"] is not None or len(trace.source(node)[1].shape) != 3:
        raise UnsupportedStepError(f"{trace.label(node)} over anything but rows and columns")
    number = _adaptive_average(trace, node, {"output_size": 1})
    if options["keepdim"]:
        return number
    value = trace.values[number]
    return trace.add(Flatten((number,)), value.shape[:1], value.nonnegative)


def _sum_of_two(trace: Translation, node: fx.Node, options: _Options) -> int:
    (left_number, left), (right_number, right) = trace.source(node, 0), trace.source(node, 1)
    if node.kwargs or left.shape != right.shape:
        raise UnsupportedStepError(f"{trace.label(node)} of anything but two values of one shape")
    operation = Add((left_number, right_number))
    return trace.add(operation, left.shape, left.nonnegative and right.nonnegative)


def _flatten(trace: Translation, node: fx.Node, options: _Options) -> int:
    # Any reshape to one axis keeps the entries in their order, so it is a flatten.
    number, value = trace.source(node)
    shape = trace.shape(node)
    if shape == value.shape:
        return number
    if shape != (math.prod(value.shape),):
        raise UnsupportedStepError(f"{trace.label(node)} to anything but (B, N)")
    return trace.add(Flatten((number,)), shape, value.nonnegative)


def _dropout(trace: Translation, node: fx.Node, options: _Options) -> int:
    if options["training"]:
        raise UnsupportedStepError(f"{trace.label(node)}, which is always on")
    return _identity(trace, node, options)


_MODULES: dict[type[nn.Module], _Handler] = {
    nn.Conv2d: _convolution,
    nn.Linear: _dense,
    nn.ReLU: _rectify,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average,
    nn.Flatten: _flatten,
    nn.Identity: _identity,
    nn.Dropout: _dropout,
    nn.Dropout2d: _dropout,
}

_DEFAULTS: dict[str, Any] = {
    "bias": None,
    "ceil_mode": False,
    "count_include_pad": True,
    "dilation": 1,
    "dim": None,
    "divisor_override": None,
    "dtype": None,
    "keepdim": False,
    "padding": 0,
    "return_indices": False,
    "stride": None,
    "training": True,
}
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE_POOL = (
    "kernel_size",
    "stride",
    "padding",
    "ceil_mode",
    "count_include_pad",
    "divisor_override",
)
_MEAN = ("dim", "keepdim", "dtype")
_Table = dict[Any, tuple[_Handler, tuple[str, ...]]]

_FUNCTIONS: _Table = {
    F.relu: (_rectify, ()),
    torch.relu: (_rectify, ()),
    F.linear: (_dense, ("weight", "bias")),
    F.max_pool2d: (_max_pool, _MAX_POOL),
    torch.max_pool2d: (_max_pool, _MAX_POOL),
    F.avg_pool2d: (_average_pool, _AVERAGE_POOL),
    F.adaptive_avg_pool2d: (_adaptive_average, ("output_size",)),
    F.dropout: (_dropout, ("p", "training")),
    torch.mean: (_mean, _MEAN),
    torch.add: (_sum_of_two, ()),
    operator.add: (_sum_of_two, ()),
    operator.iadd: (_sum_of_two, ()),
    torch.flatten: (_flatten, ()),
}
_METHODS: _Table = {
    "relu": (_rectify, ()),
    "relu_": (_rectify, ()),
    "add": (_sum_of_two, ()),
    "add_": (_sum_of_two, ()),
    "mean": (_mean, _MEAN),
    "flatten": (_flatten, ()),
    "view": (_flatten, ()),
    "reshape": (_flatten, ()),
    "contiguous": (_identity, ()),
}
