"""Write the tables of documents from raw files: python -m examples.tables [--check]

A document marks a table with `<!-- table: NAME -->` and `<!-- end -->`. `--check` changes nothing, and exits 1 if a document
does not show what its files say.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from examples.delegation import report as delegation
from examples.judge import report as judge
from examples.oolong_rao import report as oolong
from examples.open_model_rao import report as open_model
from examples.textcraft_rao import report as textcraft

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

TABLES: dict[str, Callable[[], list[str]]] = {
    "textcraft": lambda: textcraft.table(textcraft.RESULTS),
    "textcraft-hard": lambda: textcraft.hard_table(textcraft.RESULTS),
    "textcraft-short": lambda: textcraft.short_table(textcraft.RESULTS),
    "delegation-short": delegation.short_table,
    "delegation": delegation.table,
    "delegation-levels": delegation.levels_table,
    "delegation-effort": delegation.effort_table,
    "delegation-reference": delegation.reference_table,
    "judge": judge.table,
    "oolong": lambda: oolong.table(oolong.RESULTS),
    "oolong-differences": lambda: oolong.differences(oolong.RESULTS),
    "oolong-training": lambda: oolong.training(oolong.RESULTS),
    "oolong-effort": lambda: oolong.effort(oolong.RESULTS),
    "oolong-reference": lambda: oolong.reference(oolong.RESULTS),
    "open-model": lambda: open_model.table(open_model.RESULTS),
}
DOCUMENTS = (
    "README.md",
    "docs/evaluation.md",
    "examples/delegation/README.md",
    "examples/oolong_rao/README.md",
    "examples/open_model_rao/README.md",
    "examples/textcraft_rao/README.md",
)


def filled(text: str) -> str:
    """A document with its tables computed anew."""

    def block(match: re.Match[str]) -> str:
        lines = "\n".join(TABLES[match[2]]())
        return f"{match[1]}{lines}\n{match[4]}"

    return _BLOCK.sub(block, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            stale.append(name)
            if not given.check:
                path.write_text(new, encoding="utf-8")
    if given.check and stale:
        sys.exit(f"not what their files say: {', '.join(stale)}; run python -m examples.tables")


if __name__ == "__main__":
    main()
