"""The document of the example: the journal of a harbour over a year, with a question whose answer is known."""

from __future__ import annotations

from random import Random

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
QUESTION = (
    "`context` is a list of texts, the journal of a harbour with one text for each month. Launch one sub-agent for each text "
    "and let it return the number of boats that came in. Return the numbers as a list, in the order of the texts."
)
_WHO = (
    "The keeper",
    "A fisherman",
    "The widow Harlan",
    "Old Brandt",
    "The schoolmaster",
    "A pedlar",
    "The pilot's son",
)
_DID = (
    "mended the nets by",
    "quarrelled about",
    "walked along",
    "painted",
    "asked after",
    "kept watch over",
    "measured",
)
_WHAT = ("the north pier", "the new lamp", "the salt store", "the chapel roof", "the ferry steps", "the rope walk")
_WHEN = ("before the tide turned", "in thin rain", "while the bells rang", "until dark", "with little to show for it")
_ENTRIES = 72


def journal(seed: int = 0) -> tuple[str, list[int]]:
    """A text of some 12,000 tokens with a headline for each month, and the number of boats of each month."""
    rng = Random(seed)
    boats = [rng.randint(11, 98) for _ in MONTHS]
    return "\n\n".join(_month(rng, month, number) for month, number in zip(MONTHS, boats, strict=True)), boats


def _month(rng: Random, month: str, boats: int) -> str:
    entries = [
        f"{rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHAT)} {rng.choice(_WHEN)}." for _ in range(_ENTRIES)
    ]
    entries.insert(rng.randrange(5, _ENTRIES - 5), f"In all, {boats} boats came in.")
    paragraphs = [" ".join(entries[start : start + 9]) for start in range(0, len(entries), 9)]
    return f"# {month}\n\n" + "\n\n".join(paragraphs)
