"""A plan: everything that happens in one tree of the campaign, as data that can be printed, rerun and cut down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer of an agent's model; `cells` says what each kind writes.

    `children` are the names launched, `mode` says how; `what` is the kind of tool call or value; `share`, `returns` and
    `context` go to the launches.
    """

    kind: str
    what: str = ""
    children: tuple[str, ...] = ()
    mode: str = "safe"
    share: int | None = None
    returns: str | None = None
    context: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One agent. After its steps it finishes, or (`end`) never does, or stops writing code."""

    name: str
    steps: tuple[Step, ...] = ()
    end: str = "finish"
    children: tuple[NodePlan, ...] = ()

    def walk(self) -> Iterator[NodePlan]:
        """This one and those below."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the endpoint does to the first `times` attempts at step `step` (from 0) of a node; `amount` is in seconds."""

    node: str
    step: int
    kind: str
    times: int = 1
    amount: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One tree of the campaign. `machine` names how it is run (see `runner`)."""

    seed: int
    root: NodePlan
    faults: tuple[Fault, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    interface: str = "chat"
    style: str = "minimal"
    sampling: int = 512
    request_timeout: float = 30.0
    score: str = ""
    entry: str = "solve"
    machine: str = "shared"
    trace: bool = True
    returns: str = ""
    prices: bool = False
    tokenize: bool = True
    """Whether the endpoint has a /tokenize."""

    def to_json(self) -> str:
        """One line that `from_json` reads; defaults are left out."""
        return json.dumps(_short(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan of `to_json`."""
        data = json.loads(text)
        data["root"] = _node(data["root"])
        data["faults"] = tuple(Fault(**fault) for fault in data.get("faults", ()))
        return cls(**data)

    def outline(self) -> str:
        """For people: a line for each agent, fault and setting that is not the default."""
        lines = [f"seed {self.seed}"]
        shown = {key: value for key, value in _short(self).items() if key not in ("seed", "root", "faults")}
        lines += [f"  {name}: {value}" for name, value in shown.items()]
        for node in self.root.walk():
            steps = [f"{step.kind}:{step.what or step.mode if step.children else step.what}" for step in node.steps]
            lines.append(f"  agent {node.name}: {', '.join([*steps, node.end])}")
        for fault in self.faults:
            lines.append(f"  fault at {fault.node}, step {fault.step}: {fault.kind} ×{fault.times} ({fault.amount:g})")
        return "\n".join(lines)


def _short(value: Any) -> dict[str, Any]:
    """`asdict` without what has its default."""
    given = {}
    for item in fields(value):
        inner = getattr(value, item.name)
        if item.name in ("children", "steps", "faults") and inner and not isinstance(inner[0], str):
            given[item.name] = [_short(part) for part in inner]
        elif item.name == "root":
            given["root"] = _short(inner)
        elif inner != item.default and not (item.name in ("limits", "faults") and not inner):
            given[item.name] = list(inner) if isinstance(inner, tuple) else inner
    return given


def _node(data: Mapping[str, Any]) -> NodePlan:
    steps = tuple(Step(**{**step, "children": tuple(step.get("children", ()))}) for step in data.get("steps", ()))
    children = tuple(_node(child) for child in data.get("children", ()))
    return NodePlan(name=data["name"], steps=steps, end=data.get("end", "finish"), children=children)


__all__ = ["Fault", "NodePlan", "Plan", "Step", "asdict"]
