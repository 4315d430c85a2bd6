"""The colours of pictures can be told apart by colour-blind readers, on both grounds, and in grey by dashes and markers."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rao_rl.evaluation.palette import COLOURS, COMPARED, HATCHES, LOOKS, MODES, SOLVED, UNSOLVED, look

ROOT = Path(__file__).parents[2]

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIMULATED = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
LEAST = 15.0
"""CIE76 distance in Lab that all pairs keep; 2.3 is just noticed side by side."""


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = (XYZ @ np.clip(rgb, 0, 1)) / np.array([0.95047, 1.0, 1.08883])
    f = [value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str, sight: str) -> float:
    seen = [lab(SIMULATED[sight] @ linear(colour)) for colour in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def contrast(colour: str, ground: str) -> float:
    light = sorted(float((XYZ @ linear(each))[1]) for each in (colour, ground))
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("sight", SIMULATED)
@pytest.mark.parametrize("colours", [COLOURS, [each.dark for each in LOOKS]], ids=["light", "dark"])
def test_all_pairs_of_colours_are_told_apart(sight: str, colours: list[str]) -> None:
    close = {(a, b): round(d, 1) for a, b in combinations(colours, 2) if (d := distance(a, b, sight)) < LEAST}
    assert close == {}


@pytest.mark.parametrize("sight", SIMULATED)
def test_bars_side_by_side_are_told_apart_also_in_grey(sight: str) -> None:
    for one, other in (tuple(MODES.values()), COMPARED, (SOLVED, UNSOLVED)):
        assert distance(one, other, sight) > 30
        assert abs(lab(linear(one))[0] - lab(linear(other))[0]) > 20  # lightness alone
    assert HATCHES["single"] != HATCHES["recursive"]


def test_lines_stand_out_from_their_ground() -> None:
    assert min(contrast(each.colour, "#FFFFFF") for each in LOOKS) > 2
    assert min(contrast(each.colour, "#FFFFFF") for each in LOOKS[:3]) > 3
    assert min(contrast(each.dark, "#12151A") for each in LOOKS) > 3


def test_in_grey_dashes_and_markers_tell_lines_apart() -> None:
    assert len({each.dash for each in LOOKS}) == len({each.marker for each in LOOKS}) == len(LOOKS)
    many = [look(place) for place in range(3 * len(LOOKS))]
    assert len({(each.colour, each.dash) for each in many}) == len(many)


def test_only_the_style_draws() -> None:
    """Whatever draws with matplotlib does it by the charts, so that all of them have one style."""
    drawing = ROOT / "rao_rl" / "evaluation" / "plots"
    for folder in ("recursive_agent", "rao_rl", "cli", "examples", "benchmarks", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            if drawing in path.parents:
                continue
            names = [
                name
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [each.name for each in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            ]
            assert not [name for name in names if name.partition(".")[0] in ("matplotlib", "plotly", "seaborn")], path
