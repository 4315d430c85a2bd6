"""Where recorded runs are, unless an option says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def trace_dir(option: Path | None = None) -> Path:
    """The folder of traces: of `--trace-dir`, else of RAO_TRACE_DIR, else `traces`."""
    return option or Path(os.environ.get("RAO_TRACE_DIR") or "traces")
