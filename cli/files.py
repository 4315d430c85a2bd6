"""Files that a command writes at its end: checked before its work, so that no work is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError


def check_writable(path: Path) -> None:
    """Make the folder of a file, and see that the file can be written. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); choose another file") from None


def write_json(path: Path, data: Any) -> None:
    """Write data to a file. Raises ConfigurationError if that fails."""
    try:
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror})") from error
