"""Item names: two common words each (`copper_gear`), dealt out anew for every world."""

from __future__ import annotations

import random
from typing import Literal

Naming = Literal["words", "fixed"]

MATERIALS = (
    *("copper", "iron", "brass", "steel", "silver", "gold", "tin", "bronze", "lead", "zinc"),
    *("oak", "pine", "cedar", "maple", "birch", "willow", "walnut", "bamboo", "cork", "elm"),
    *("glass", "stone", "clay", "marble", "granite", "slate", "amber", "jade", "ivory", "quartz"),
    *("leather", "wool", "linen", "silk", "cotton", "felt", "paper", "wax", "rubber", "bone"),
)
PARTS = (
    *("gear", "frame", "rod", "ring", "plate", "bolt", "wheel", "hinge", "lever", "pin"),
    *("box", "bowl", "cup", "lamp", "bell", "chain", "hook", "knob", "handle", "latch"),
    *("beam", "panel", "disk", "cone", "tube", "ball", "cube", "wedge", "block", "sheet"),
    *("button", "buckle", "brush", "blade", "tile", "tray", "peg", "cap", "band", "spool"),
)
_POOLS: dict[Naming, tuple[str, ...]] = {
    "words": tuple(f"{material}_{part}" for material in MATERIALS for part in PARTS),
    "fixed": tuple(f"m{i}_i{j}" for i in range(len(MATERIALS)) for j in range(len(PARTS))),
}


def deal(naming: Naming, seed: int, count: int) -> list[str]:
    """`count` different names in an order drawn from `seed`, so that the name of an item says nothing about it.

    `words` are readable (`copper_gear`), `fixed` are opaque (`m0_i1`).
    """
    return random.Random(f"names/{naming}/{seed}").sample(_POOLS[naming], count)
