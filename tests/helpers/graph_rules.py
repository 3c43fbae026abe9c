"""The one shape of graph that every engine in use gets right, and a checker of it for tests.

DaskRunner drops, without a word, what `finish_bundle` gives out and every leaf but the last, and mixes tagged outputs
into one; engines differ in side inputs, state and timers (docs/decisions/0016-engines.md). So a graph is
`Create | Reshuffle | ParDo`, one output each, and the function of the ParDo has `process` alone.
"""

from typing import Any, Final

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.transforms.userstate import is_stateful_dofn

SHAPE: Final = (beam.Create, beam.Reshuffle, beam.ParDo)


class GraphError(AssertionError):
    """A graph of ours has a shape that some engine gets wrong: a fault of the program, not of its user."""


class _Rules(PipelineVisitor):
    """Collects what is wrong with each transform, at any depth."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        self.visit_transform(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        if node.side_inputs:
            self._add(node, "has a side input")
        if len(node.outputs) > 1:
            self._add(node, "has tagged outputs")
        if isinstance(node.transform, beam.ParDo) and _is_ours(node):
            self._look_at(node, node.transform.fn)

    def _look_at(self, node: AppliedPTransform, function: Any) -> None:
        if _overrides(function, "finish_bundle"):
            self._add(node, "has finish_bundle, whose output is lost")
        if _overrides(function, "process_batch"):
            self._add(node, "works on batches, whose tail is lost")
        if is_stateful_dofn(function):
            self._add(node, "keeps state or sets timers")

    def _add(self, node: AppliedPTransform, fault: str) -> None:
        self.faults.append(f"{node.full_label!r} {fault}")


def check_graph(pipeline: beam.Pipeline) -> None:
    """Raises GraphError, with everything that is wrong, unless `pipeline` has the one shape."""
    rules = _Rules()
    pipeline.visit(rules)
    parts = pipeline._root_transform().parts
    for node in parts:
        if len(_readers(parts, node)) > 1:
            rules.faults.append(f"{node.full_label!r} is read twice: of two leaves one is lost")
    found = [type(node.transform) for node in parts]
    if found != list(SHAPE):
        rules.faults.append(f"it is {' | '.join(kind.__name__ for kind in found) or 'empty'}")
    elif any(len(_readers(parts, node)) != expected for node, expected in zip(parts, (1, 1, 0), strict=True)):
        rules.faults.append("its parts are not one chain")
    if rules.faults:
        shape = " | ".join(kind.__name__ for kind in SHAPE)
        raise GraphError(f"only {shape} is right on every engine; in this graph {'; '.join(rules.faults)}")


def _readers(parts: list[AppliedPTransform], node: AppliedPTransform) -> list[AppliedPTransform]:
    """Those of `parts` that read what `node` gives out."""
    outputs = set(node.outputs.values())
    return [part for part in parts if outputs & set(part.inputs)]


def _is_ours(node: AppliedPTransform) -> bool:
    """Whether a ParDo is part of our graph, not of Beam's own Create or Reshuffle."""
    return node.parent is not None and node.parent.parent is None


def _overrides(function: Any, method: str) -> bool:
    return getattr(type(function), method, None) is not getattr(beam.DoFn, method, None)
