"""The counts of docs/running.md: `python -m tests.resume.count` kills trees of 60 agents at 60 instants and resumes them."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

from .test_kills import Counts, kill_and_resume


def main() -> None:
    total = Counts()
    for seed in range(6):
        with tempfile.TemporaryDirectory() as folder:
            counts = kill_and_resume(Path(folder), seed=100 + seed, kills=10)
        for field in fields(Counts):
            setattr(total, field.name, getattr(total, field.name) + getattr(counts, field.name))
        print(counts, flush=True)
    print("in all:", total)


if __name__ == "__main__":
    main()
