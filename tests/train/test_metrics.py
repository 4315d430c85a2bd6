"""Every metric that training writes is listed with its unit, and every listed one is written."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rao_rl.config import CreditConfig, ImitationConfig, UpdateConfig
from rao_rl.data.folder import read_groups
from rao_rl.imitation.run import train
from rao_rl.train.metrics import NAMES
from rao_rl.train.run import train_offline

from ..imitation.steps import ROWS
from .policies import make_checkpoint
from .small_steps import qwen3
from .test_offline import record

SOURCES = Path(__file__).parents[2] / "rao_rl" / "train"
PREFIXED = re.compile(r'f?"((?:rao|time|eval|funnel|sampling|clip_ratio|judge|alarms|flow)/[^"]+)"')


def written(metrics: Path) -> set[str]:
    return {name for line in metrics.read_text().splitlines() for name in json.loads(line)}


def unlisted(names: set[str]) -> set[str]:
    return {name for name in names if not any(fnmatchcase(name, pattern) for pattern in NAMES)}


def test_what_training_on_traces_writes_is_listed(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "policy", tokenizer)
    (tmp_path / "traces").mkdir()
    record(tmp_path / "traces", 2)
    recorded = read_groups(tmp_path / "traces")
    train_offline(
        tmp_path / "out",
        tmp_path / "policy",
        recorded,
        credit=CreditConfig(),
        update=UpdateConfig(bf16=False),
        max_steps=1,
    )
    names = written(tmp_path / "out" / "metrics.jsonl")
    assert {"loss", "reward", "rao/mismatch_kl", "time/train"} <= names
    assert unlisted(names) == set()


def test_what_imitation_writes_is_listed(tokenizer: Any, tmp_path: Path) -> None:
    settings = ImitationConfig(output_dir=str(tmp_path), max_steps=2, bf16=False, logging_steps=1)
    train(qwen3(), tokenizer, lambda number: [ROWS], settings)
    names = written(tmp_path / "metrics.jsonl")
    assert {"loss", "entropy", "mean_token_accuracy", "num_tokens"} <= names
    assert unlisted(names) == set()


def test_the_names_in_the_code_and_the_list_are_the_same() -> None:
    texts = {path: path.read_text() for path in SOURCES.glob("*.py") if path.name != "metrics.py"}
    texts[SOURCES / "metrics.py"] = (SOURCES / "metrics.py").read_text().partition("def tree_metrics")[2]
    page = SOURCES.parent / "evaluation" / "training_page.py"
    texts[page] = page.read_text()  # which names the time that every line has
    for name in ("flow", "meter"):  # what the queue says of itself
        path = SOURCES.parent / "rollouts" / f"{name}.py"
        texts[path] = path.read_text()
    found = {re.sub(r"\{.*?\}", "x", name) for text in texts.values() for name in PREFIXED.findall(text)}
    for kind in ("rollouts", "nodes"):  # written in a loop
        found |= {name.replace("funnel/x", f"funnel/{kind}") for name in found if name.startswith("funnel/x")}
    found = {name for name in found if not name.startswith("funnel/x")}
    ours = {name for name in NAMES if "/" in name}
    assert unlisted({name for name in found if not name.endswith("/")}) == set()
    assert {pattern for pattern in ours if not any(fnmatchcase(name, pattern) for name in found)} == set()
