"""Pictures come out, of a sane size and with something on them, or one sentence says why not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rao_rl.evaluation.compare import differences
from rao_rl.evaluation.curves import TOKENS, Axis
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.plots import BOTH, comparison, evaluation, learning_curves
from recursive_agent.errors import ConfigurationError


def attempts(*, modes: tuple[str, ...] = ("single", "recursive")) -> list[Attempt]:
    return [
        Attempt(
            task=f"{level}/{number}",
            level=level,
            mode=mode,  # type: ignore[arg-type]
            status="finished",
            score=float(number < 2) if mode == "recursive" else 0.0,
            agents=4,
            depth=number if mode == "recursive" else 0,
            steps=9,
            completion_tokens=100,
            prompt_tokens=200,
            seconds=1.0,
            concurrent_share=0.5,
            launches=3 if mode == "recursive" else 0,
        )
        for level in ("easy", "hard")
        for mode in modes
        for number in range(3)
    ]


def metrics(path: Path, *, tokens: bool = True, keys: tuple[str, ...] = ("loss", "eval/success/easy")) -> Path:
    rows = [
        {"step": step, **dict.fromkeys(keys, 0.01 * step), **({TOKENS: 1000 * step} if tokens else {})}
        for step in range(50)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(path: Path, *colours: str) -> None:
    """A picture for a page: neither tiny nor huge, and these colours really drawn in it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 400 <= image.width <= 2400
        assert 300 <= image.height <= 2400
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    height, width = image.height, image.width
    drawn = pixels.reshape(height, width, 3)
    edge = np.concatenate(
        [drawn[:2].reshape(-1, 3), drawn[-2:].reshape(-1, 3), drawn[:, :2].reshape(-1, 3), drawn[:, -2:].reshape(-1, 3)]
    )
    assert (edge == 255).all(), "something is cut at the edge"
    for colour in colours:
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 20


def test_an_evaluation_of_both_modes_makes_four_pictures(tmp_path: Path) -> None:
    made = evaluation(attempts(), tmp_path / "new")
    assert [path.name for path in made] == ["success.png", "tokens_per_solved.png", "depth.png", "concurrency.png"]
    single, recursive = "#E69F00", "#0072B2"
    for path in made:
        check(path, recursive)
    check(made[0], single)  # in the legend only: nothing was solved alone
    check(made[2], "#D0D0D0")


def test_where_nothing_was_launched_there_is_neither_depth_nor_concurrency(tmp_path: Path) -> None:
    made = evaluation(attempts(modes=("single",)), tmp_path)
    assert [path.name for path in made] == ["success.png", "tokens_per_solved.png"]


def test_an_evaluation_without_attempts_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no attempts to draw"):
        evaluation([], tmp_path)


@pytest.mark.parametrize("x", ["step", "tokens"])
def test_curves_of_several_runs_and_seeds_are_one_picture(tmp_path: Path, x: Axis) -> None:
    runs = {
        "RAO": [metrics(tmp_path / "a"), metrics(tmp_path / "b")],
        "single": [metrics(tmp_path / "c", keys=("eval/success/easy", "eval/success/hard", "grad_norm"))],
    }
    out = learning_curves(runs, tmp_path / "new" / "curves.png", x)
    check(out, "#0072B2", "#D55E00")


def test_metrics_of_ones_own_choice_are_drawn(tmp_path: Path) -> None:
    run = metrics(tmp_path / "a", keys=("rao/fan_out",))
    check(learning_curves({"a": [run]}, tmp_path / "x.png", "step", metrics={"rao/fan_out": "fan-out"}), "#0072B2")


def test_more_runs_than_colours_still_differ(tmp_path: Path) -> None:
    run = metrics(tmp_path / "a")
    check(learning_curves({f"run {n}": [run] for n in range(9)}, tmp_path / "x.png", "step"))


@pytest.mark.parametrize(
    ("runs", "x", "complaint"),
    [
        ({}, "step", "no metrics files"),
        ({"a": []}, "step", "no metrics files"),
        ({"a": [("m", ("unknown",))]}, "step", "nothing to draw"),
        ({"a": [("m", ("loss",))]}, "tokens", f"beside {TOKENS}"),
    ],
)
def test_nothing_to_draw_is_one_sentence_and_no_picture(
    tmp_path: Path, runs: dict[str, list[tuple[str, tuple[str, ...]]]], x: Axis, complaint: str
) -> None:
    files = {
        label: [metrics(tmp_path / name, tokens=False, keys=keys) for name, keys in named]
        for label, named in runs.items()
    }
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        learning_curves(files, tmp_path / "x.png", x)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.png").exists()


def test_both_kinds_of_files_say_the_same_and_the_same_figures_make_the_same_file(tmp_path: Path) -> None:
    made = evaluation(attempts(), tmp_path / "a", kinds=BOTH)
    assert [path.suffix for path in made[:2]] == [".png", ".svg"]
    again = evaluation(attempts(), tmp_path / "b", kinds=BOTH)
    for one, other in zip(made, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert made[1].read_text().startswith("<?xml")
    out = learning_curves({"a": [metrics(tmp_path / "m")]}, tmp_path / "c.svg", "step")
    assert "<svg" in out.read_text()


def test_long_names_of_runs_and_levels_are_not_cut(tmp_path: Path) -> None:
    long = [replace(each, level=f"{each.level} tasks of more than a hundred thousand tokens") for each in attempts()]
    for path in evaluation(long, tmp_path):
        check(path)
    runs = {f"a run with a rather long name, number {n}": [metrics(tmp_path / str(n))] for n in range(5)}
    check(learning_curves(runs, tmp_path / "curves.png", "step"))


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_comparisons_are_not_cut(tmp_path: Path, levels: int) -> None:
    first = [replace(each, level=f"level {n}", task=f"{n}/{each.task}") for n in range(levels) for each in attempts()]
    second = [replace(each, score=1.0) for each in first]
    for path in comparison(differences(first, second), ("before", "after"), tmp_path):
        check(path, "#0072B2")
