"""A command line that is wrong: one sentence that says what to change, status 2, and no traceback."""

import sys
from pathlib import Path

import pytest

from recursive_agent.model.embedded import SHIPPED

from .command import run_here


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run x --bogus", "there is no option --bogus (see: rao run --help)"),
        (
            "run x --modle m",
            "there is no option --modle; did you mean --model, --models, --otel? (see: rao run --help)",
        ),
        ("run x --max-depth deep", "--max-depth must be a whole number (see: rao run --help)"),
        ("run x --max-depth -1", "--max-depth must be at least 0: -1"),
        ("run x --timeout 0", "--timeout must be more than 0: 0.0"),
        ("run x --timeout nan", "--timeout must be a number, not NaN"),
        ("run x --timeout soon", "--timeout must be a number (see: rao run --help)"),
        ("run x --interface smoke", "--interface must be chat or tokens, not 'smoke' (see: rao run --help)"),
        ("run x --model", "--model needs a value"),
        ("run sum the bill", "nothing is expected here: the bill (put words that belong together in quotes)"),
        ("run x --json=yes", "--json takes no value"),
        ("run x --sandbox jail", "there is no sandbox 'jail'; choose from 'inprocess'"),
        ("run x --sandbox nowhere:Jail", "nowhere:Jail: the module nowhere cannot be found"),
        ("rnu x", "there is no command rnu; did you mean run? (see: rao --help)"),
        ("frobnicate", "there is no command frobnicate (see: rao --help)"),
        ("trace shwo", "there is no command shwo; did you mean show? (see: rao trace --help)"),
        ("plot", "is missing (see: rao plot --help)"),
        ("plot runs/a", "say what to make: --out DIR for charts, --page FILE for a page, or --view to look at it"),
        ("eval textcraft --tasks 0", "--tasks must be at least 1 (see: rao eval --help)"),
        ("serve policy --engine llama", "--engine must be vllm or embedded, not 'llama'"),
        ("serve policy --port http", "--port must be a whole number"),
    ],
)
def test_it_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_here(monkeypatch, capsys, *line.split())
    assert (code, out) == (2, ""), err
    assert err.startswith("rao: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for command in ("run x", "eval textcraft", "rollout textcraft"):
        code, _, err = run_here(monkeypatch, capsys, *command.split(), "--model", "empty/")
        assert code == 2
        assert "empty/ contains no model: it has neither agent.json nor config.json; give a folder" in err


def test_a_missing_extra_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for module in [name for name in sys.modules if name.startswith(("rao_rl.serve", "rao_cli.serving.apps"))]:
        monkeypatch.delitem(sys.modules, module)
    policy = str(SHIPPED)
    code, _, err = run_here(monkeypatch, capsys, "serve", policy, "--engine", "embedded")
    assert (code, err) == (2, "rao: this server needs more packages: pip install 'rao[serve]' (fastapi is missing)\n")
    # vLLM is served without them.
    code, _, err = run_here(monkeypatch, capsys, "serve", policy, "--python", "/nowhere/python")
    assert code == 2
    assert "/nowhere/python is not a working Python interpreter" in err
