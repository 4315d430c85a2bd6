"""Names of functions and files, dealt anew for every repository, so that a name says nothing about what a function does."""

from __future__ import annotations

import random

VERBS = (
    *("bake", "bend", "bind", "brew", "carve", "cast", "chop", "coil", "comb", "curl", "dip", "drape", "etch", "fan"),
    *("file", "fold", "forge", "glue", "grind", "hang", "hone", "knit", "lace", "melt", "mill", "mold", "pack", "pave"),
    *("peel", "pin", "plow", "press", "rake", "roast", "roll", "sand", "sew", "sift", "spin", "stack", "tie", "weave"),
)
NOUNS = (
    *("amber", "anvil", "basin", "birch", "brick", "cable", "cedar", "chalk", "clay", "cloth", "coral", "crate"),
    *("drum", "ember", "fern", "flint", "frost", "glass", "grain", "hazel", "ivory", "kettle", "lamp", "linen"),
    *("maple", "moss", "oak", "paper", "pearl", "quilt", "reed", "rope", "salt", "shell", "silk", "slate", "straw"),
)
FILES = (
    *(
        "attic",
        "bridge",
        "cellar",
        "dock",
        "forest",
        "garden",
        "harbor",
        "island",
        "kitchen",
        "loft",
        "market",
        "meadow",
    ),
    *("orchard", "pier", "quarry", "river", "shop", "tower", "valley", "yard"),
)


def deal(rng: random.Random, functions: int, files: int) -> tuple[list[str], list[str]]:
    """Different names of functions (`fold_amber`) and of files (`garden.py`)."""
    pool = [f"{verb}_{noun}" for verb in VERBS for noun in NOUNS]
    return rng.sample(pool, functions), [f"{name}.py" for name in rng.sample(FILES, files)]
