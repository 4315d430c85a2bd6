"""From a plan that fails to the least one that fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .plan import NodePlan, Plan, Step
from .runner import Campaign, Report

SECONDS = 60.0
"""Seconds (real) that shrinking one plan may take."""


def shrink(report: Report, *, seconds: float = SECONDS, again: Callable[[Plan], Report] | None = None) -> Report:
    """The smallest failure found in time that breaks (among others) the same invariant as `report` does."""
    if again is None:
        with Campaign() as campaign:
            return shrink(report, seconds=seconds, again=campaign.carry_out)
    wanted = {violation.invariant for violation in report.violations}
    end = time.monotonic() + seconds
    best, failed = report, True
    while failed:
        failed = False
        tried: set[str] = set()
        while (
            smaller := next((plan for plan in _smaller(best.plan) if plan.to_json() not in tried), None)
        ) is not None:
            if time.monotonic() > end:
                return best
            tried.add(smaller.to_json())
            attempt = again(smaller)
            if wanted & {violation.invariant for violation in attempt.violations}:
                best, failed = attempt, True
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with something left out, the largest pieces first."""
    if plan.faults:
        half = len(plan.faults) // 2
        if half:
            yield replace(plan, faults=plan.faults[:half])
            yield replace(plan, faults=plan.faults[half:])
    for node in plan.root.walk():
        if node.name != "0":
            yield replace(plan, root=_without(plan.root, node.name), faults=_faults_outside(plan, node.name))
    for number in range(len(plan.faults)):
        yield replace(plan, faults=plan.faults[:number] + plan.faults[number + 1 :])
    for node in plan.root.walk():
        for number in range(len(node.steps)):
            steps = node.steps[:number] + node.steps[number + 1 :]
            yield replace(
                plan, root=_with(plan.root, replace(node, steps=steps)), faults=_moved(plan, node.name, number)
            )
        if node.end != "finish":
            yield replace(plan, root=_with(plan.root, replace(node, end="finish")))
    plainer: dict[str, object] = {
        "tokenize": True,
        "score": "",
        "entry": "solve",
        "machine": "shared",
        "style": "minimal",
        "interface": "chat",
        "returns": "",
    }
    for name, value in plainer.items():
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})  # type: ignore[arg-type]
    if plan.trace:
        yield replace(plan, trace=False)
    for name in plan.limits:
        if name not in ("timeout", "cell_timeout", "max_tokens"):
            yield replace(plan, limits={key: value for key, value in plan.limits.items() if key != name})
    for number, fault in enumerate(plan.faults):
        if fault.times > 1:
            fewer = replace(fault, times=fault.times // 2)
            yield replace(plan, faults=(*plan.faults[:number], fewer, *plan.faults[number + 1 :]))
    for node in plan.root.walk():
        for number, step in enumerate(node.steps):
            if step.kind == "launch" and (step.context or step.share or step.returns):
                less = replace(step, context=0, share=None, returns=None)
                steps = (*node.steps[:number], less, *node.steps[number + 1 :])
                yield replace(plan, root=_with(plan.root, replace(node, steps=steps)))


def _without(node: NodePlan, name: str) -> NodePlan:
    """The tree without an agent and all below it."""
    children = tuple(_without(child, name) for child in node.children if child.name != name)
    steps = tuple(_unlaunched(step, name) for step in node.steps)
    return replace(node, children=children, steps=tuple(step for step in steps if step is not None))


def _unlaunched(step: Step, name: str) -> Step | None:
    if name not in step.children:
        return step
    rest = tuple(child for child in step.children if child != name)
    return replace(step, children=rest) if rest else None


def _with(node: NodePlan, changed: NodePlan) -> NodePlan:
    if node.name == changed.name:
        return replace(changed, children=tuple(node.children))
    return replace(node, children=tuple(_with(child, changed) for child in node.children))


def _faults_outside(plan: Plan, name: str) -> tuple:  # type: ignore[type-arg]
    return tuple(f for f in plan.faults if f.node != name and not f.node.startswith(f"{name}."))


def _moved(plan: Plan, name: str, number: int) -> tuple:  # type: ignore[type-arg]
    """Faults of later steps come one step earlier where a step was left out."""
    return tuple(replace(f, step=f.step - 1) if f.node == name and f.step > number else f for f in plan.faults)
