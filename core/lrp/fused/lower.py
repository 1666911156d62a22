"""Lower a network to a :class:`~.program.Program`, or say which parts of it have no rule.

``torch.fx`` traces the network, and :mod:`.translate` turns each node of the trace into operations.
Then the program's logits are compared with the network's: a trace can miss what Python code decides
at run time, and the maps of a program that computes something else would be wrong without notice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import fx, nn

from ...errors import ModelError
from .program import Convolution, Dense, Program
from .translate import Translation, UnsupportedStepError

__all__ = ["UnsupportedNetworkError", "lower"]

# Float32 convolutions summed in another order differ by about 1e-6 of the largest output.
_TOLERANCE = 1e-4


class UnsupportedNetworkError(ModelError):
    """The fused engine has no rule for a part of the network.

    Attributes:
        reason: which part, as a clause.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; use engine='auto' or 'reference'")
        self.reason = reason


def lower(net: nn.Module, example: torch.Tensor) -> Program:
    """Translate a network for inputs of the shape of an example.

    Args:
        net: ``(B, C, H, W)`` → ``(B, A)`` logits, in eval mode, BatchNorm folded
            (:func:`~facestage.core.network.folding.fold_batchnorm`).
        example: ``(B, C, H, W)`` input with B ≥ 2, of the dtype of the weights.

    Returns:
        The program. It shares the weights.

    Raises:
        UnsupportedNetworkError: a part of the network has no fused rule; the message lists all
            such parts.
    """
    name = type(net).__name__
    try:
        graph = fx.GraphModule(net, fx.Tracer().trace(net))
        interpreter = fx.Interpreter(graph, garbage_collect_values=False)
        expected = interpreter.run(example)
    except Exception as error:  # a trace runs the network's own code, which may raise anything
        lines = str(error).splitlines() or [type(error).__name__]
        raise UnsupportedNetworkError(f"{name} cannot be traced ({lines[0]})") from error
    program = _translate(Translation(graph, interpreter.env, example), name)
    logits = program.logits(example)
    largest = float(expected.abs().max()) or 1.0
    if not float((logits - expected).abs().max()) <= _TOLERANCE * largest:
        raise UnsupportedNetworkError(
            f"the trace of {name} gives other logits than the network (it may write into tensors "
            "that it still uses)"
        )
    return program


def _translate(trace: Translation, name: str) -> Program:
    """Translate every node that the logits depend on."""
    needed = _ancestors(trace.output)
    problems: dict[str, None] = {}  # as an ordered set
    first: int | None = None
    for node in trace.nodes:
        # A layer that is not explained may run before all layers that are; then no layer of the
        # program gets the flat rule.
        weighted = trace.is_weighted(node)
        if node in needed:
            try:
                number = trace.translate(node)
            except UnsupportedStepError as problem:
                problems[str(problem)] = None
                continue
            operation = None if not number else trace.operations[number - 1]
            if first is None and isinstance(operation, (Convolution, Dense)):
                first = number
        elif first is None and weighted:
            first = -1
    if problems:
        raise UnsupportedNetworkError(f"there is no fused rule for {', '.join(problems)}")
    logits = trace.number(trace.output)
    if not logits or len(trace.values[logits].shape) != 1:
        raise UnsupportedNetworkError(
            f"{name} returns something other than one tensor of logits of shape (B, A)"
        )
    return _pruned(trace, logits, first)


def _ancestors(node: fx.Node | None) -> Collection[fx.Node]:
    seen: set[fx.Node] = set()
    todo = [] if node is None else [node]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(node.all_input_nodes)
    return seen


def _pruned(trace: Translation, logits: int, first: int | None) -> Program:
    """Remove dead operations, so that the logits are the last value."""
    live = {0, logits}
    for value in range(logits, 0, -1):
        if value in live:
            live.update(trace.operations[value - 1].sources)
    order = sorted(live)
    renumbered = {old: new for new, old in enumerate(order)}
    operations = []
    for old in order[1:]:
        operation = trace.operations[old - 1]
        sources = tuple(renumbered[source] for source in operation.sources)
        operations.append(replace(operation, sources=sources))
    flat = renumbered[first] - 1 if first in renumbered else None
    return Program(tuple(trace.values[old] for old in order), tuple(operations), flat)
