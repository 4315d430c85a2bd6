"""From one integer to a plan. The same integer gives the same plan, everywhere and always."""

from __future__ import annotations

import random
from typing import Any

from .answers import KINDS, LYING, MENDED, OTHER, WAITED
from .application import SCORES, TOOLS, WORKS
from .cells import ERRORS, VALUES
from .machine import CANCELLED, DESCRIPTORS, DISK, SIGKILLED
from .plan import Fault, NodePlan, Plan, Step

DEPTH, FAN_OUT = 4, 5
MODES = ("safe", "safe", "safe", "gather", "sequential", "tasks", "first", "forgotten")
FLAVOURS = {
    "clean": 1,
    "mended": 5,
    "storm": 2,
    "broken": 5,
    "lies": 3,
    "machine": 5,
    "cancelled": 3,
    "application": 4,
    "tight": 4,
    "everything": 3,
}


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(f"campaign/{seed}")
    flavour = rng.choices(list(FLAVOURS), list(FLAVOURS.values()))[0]
    return _Draw(rng, flavour).plan(seed)


class _Draw:
    def __init__(self, rng: random.Random, flavour: str) -> None:
        self.rng = rng
        self.flavour = flavour
        self.most = rng.choice((1, 2, 4, 6, 9, 14) if rng.random() < 0.93 else (25,))
        self.wild = flavour in ("everything", "application")
        self.orderly = flavour in ("clean", "mended", "storm", "broken", "lies")

    # -- the tree ----------------------------------------------------------------------------------------------------

    def plan(self, seed: int) -> Plan:
        rng = self.rng
        self.left = self.most - 1
        root = self._node("0", 0)
        names = [node.name for node in root.walk()]
        entry = rng.choice(("solve", "solve", "solve", "stream"))
        if self.flavour == "cancelled":
            entry = rng.choice(("solve", "solve", "solve", "leave"))
        limits, prices = self._limits()
        if any(step.kind == "spin" for node in root.walk() for step in node.steps):
            limits["cell_timeout"] = 0.3
        return Plan(
            seed=seed,
            root=root,
            faults=tuple(self._faults(root, names)),
            limits=limits,
            interface="tokens" if rng.random() < 0.2 else "chat",
            style="rich" if rng.random() < 0.25 else "minimal",
            sampling=2048 if self.orderly else rng.choice((128, 512, 2048)),
            request_timeout=rng.choice((5.0, 30.0, 120.0)),
            score=rng.choice(SCORES) if self.wild and rng.random() < 0.7 else "fine" if rng.random() < 0.2 else "",
            entry=entry,
            machine="own" if rng.random() < 0.06 else "open" if rng.random() < 0.04 else "shared",
            trace=self.flavour == "machine" or rng.random() < 0.8,
            returns=rng.choice(("str", "int", "list[str]")) if self.wild and rng.random() < 0.3 else "",
            prices=prices,
            tokenize=seed % 2 == 0,
        )

    def _node(self, name: str, depth: int) -> NodePlan:
        rng = self.rng
        children: list[NodePlan] = []
        if depth < DEPTH and self.left > 0:
            count = min(self.left, rng.randint(1 if depth == 0 else 0, FAN_OUT))
            self.left -= count
            children = [self._node(f"{name}.{number}", depth + 1) for number in range(count)]
        steps = self._steps(tuple(child.name for child in children))
        end = "finish" if self.orderly or rng.random() < 0.85 else rng.choice(("never", "mute"))
        return NodePlan(name=name, steps=tuple(steps), end=end, children=tuple(children))

    def _steps(self, children: tuple[str, ...]) -> list[Step]:
        rng = self.rng
        steps = [self._other() for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
        if children:
            cut = len(children) if rng.random() < 0.75 else rng.randint(1, len(children))
            for names in (children[:cut], children[cut:]):
                if names:
                    steps.insert(rng.randint(0, len(steps)), self._launch(names))
        if not self.orderly and rng.random() < 0.12:
            steps.append(Step(kind="value", what=rng.choice(VALUES)))
        return steps

    def _launch(self, names: tuple[str, ...]) -> Step:
        rng = self.rng
        mode = rng.choice(("safe", "safe", "sequential") if self.orderly else MODES)
        share = rng.choice((300, 1500, 6000)) if not self.orderly and rng.random() < 0.2 else None
        returns = rng.choice(("int", "str", "{'type': 'string'}")) if not self.orderly and rng.random() < 0.15 else None
        context = rng.choice((0, 0, 0, 0, 100, 100_000, 400_000))
        return Step(kind="launch", mode=mode, children=names, share=share, returns=returns, context=context)

    def _other(self) -> Step:
        rng = self.rng
        if self.wild and rng.random() < 0.7:
            if rng.random() < 0.25:
                return Step(kind="work", what=rng.choice(WORKS))
            return Step(kind=rng.choice(("act", "act", "acts", "left")), what=rng.choice(TOOLS))
        if self.flavour in ("machine", "everything") and rng.random() < 0.4:
            kind, amount = self._strike()
            return Step(kind="act", what=kind, context=int(amount))
        if not self.orderly and rng.random() < 0.2:
            return Step(kind=rng.choice(("memory", "malformed", "spin") if rng.random() < 0.5 else ("malformed",)))
        return rng.choice(
            (
                Step(kind="print", context=rng.choice((10, 100, 20_000))),
                Step(kind="error", what=rng.choice(ERRORS)),
                Step(kind="act", what=rng.choice(("fine", "slow"))),
            )
        )

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    def _faults(self, root: NodePlan, names: list[str]) -> list[Fault]:
        rng = self.rng
        steps = {node.name: len(node.steps) for node in root.walk()}

        def place() -> tuple[str, int]:
            name = rng.choice(names)
            return name, rng.randint(0, steps[name])

        count = rng.randint(1, max(2, len(names)))
        faults: list[Fault] = []
        match self.flavour:
            case "mended":
                faults = [self._fault(place(), rng.choice(MENDED), rng.randint(1, 2)) for _ in range(count)]
            case "storm":
                level = rng.randint(0, max(name.count(".") for name in names))
                kind, times = rng.choice(WAITED), rng.choice((2, 4, 8, 12))
                faults = [self._fault((name, 0), kind, times) for name in names if name.count(".") == level]
            case "broken":
                kinds = (*OTHER, *MENDED)
                faults = [self._fault(place(), rng.choice(kinds), rng.choice((1, 1, 3, 7, 50))) for _ in range(count)]
            case "lies":
                faults = [self._fault(place(), rng.choice(LYING), 1) for _ in range(count)]
            case "machine" | "cancelled" | "everything":
                for _ in range(rng.randint(1, 2)):
                    kind, amount = self._strike()
                    node, step = place()
                    faults.append(Fault(node=node, step=step, kind=f"strike {kind}", amount=amount))
                if self.flavour == "everything" or rng.random() < 0.3:
                    faults += [
                        self._fault(place(), rng.choice(tuple(KINDS)), rng.choice((1, 2, 7))) for _ in range(count)
                    ]
            case "tight" if rng.random() < 0.5:
                faults = [self._fault(place(), rng.choice(MENDED), rng.randint(1, 2)) for _ in range(count)]
        return faults

    def _fault(self, place: tuple[str, int], kind: str, times: int) -> Fault:
        amount = self.rng.choice((0.5, 3.0, 20.0, 100.0))
        return Fault(node=place[0], step=place[1], kind=kind, times=times, amount=amount)

    def _strike(self) -> tuple[str, float]:
        rng = self.rng
        if self.flavour == "cancelled":
            kinds: tuple[str, ...] = CANCELLED
        else:
            kinds = rng.choice((SIGKILLED, SIGKILLED, DISK, DISK, DESCRIPTORS, ("clock jumps",)))
        kind = rng.choice(kinds)
        amounts: dict[str, tuple[float, ...]] = {
            "disk full": (0, 1, 500, 5000),
            "few descriptors": (0, 1, 2, 3, 5, 9),
            "no descriptors for a moment": (1, 5),
            "clock jumps": (-86_400, 86_400, 3600, -1, 1e10, -1.7e9),
            "cancel": tuple(range(40)),
            "cancel twice": tuple(range(20)),
            "cancel the scope": tuple(range(40)),
            "cancel later": (0, 1, 5),
        }
        return kind, rng.choice(amounts.get(kind, (0, 1, 2, 3)))

    def _limits(self) -> tuple[dict[str, Any], bool]:
        rng = self.rng
        limits: dict[str, Any] = {"cell_timeout": 10.0, "cell_memory_mb": 64}
        if self.orderly:
            return limits | {
                "max_tokens": None,
                "timeout": 1_000_000.0,
                "max_concurrency": rng.choice((1, 2, 4, 16)),
            }, False
        limits |= {
            "timeout": rng.choice((30.0, 300.0, 900.0)),
            "cell_timeout": 10.0,
            "max_steps": rng.choice((3, 5, 8)),
        }
        prices = False
        if self.flavour == "tight" or rng.random() < 0.1:
            limits |= {
                "max_tokens": rng.choice((1, 500, 1200, 2500, 5000, 9000, 16_000)),
                "max_agents": rng.choice((1, 2, 3, 5, 64)),
                "max_children": rng.choice((0, 1, 2, 16)),
                "max_depth": rng.choice((0, 1, 2, 4)),
                "max_concurrency": rng.choice((1, 1, 2, 3)),
            }
            if rng.random() < 0.3:
                limits["max_cost"] = rng.choice((0.0005, 0.002, 0.01))
                prices = True
        return limits, prices
