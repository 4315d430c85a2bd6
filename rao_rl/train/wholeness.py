"""Whether the checkpoint of a run is whole: a kill, a full disk or a copy that was cut off leaves files that cannot be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

STATE = "trainer_state.json"


def fault_of(checkpoint: Path) -> str | None:
    """What is wrong with the folder of a checkpoint, as the end of a sentence; None for a whole one.

    Only sizes and ends of files are looked at. What several processes have written together (a folder) ends with its table.
    """
    try:
        step = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"]
        if not isinstance(step, int):
            return f"{STATE} names no step"
        for kind in ("model", "optimizer"):
            if not any(checkpoint.glob(f"*{kind}*")):
                return f"it has no {kind} file"
        for folder in (*checkpoint.glob("pytorch_model_fsdp_*/"), *checkpoint.glob("optimizer_*/")):
            if not (folder / ".metadata").is_file():
                return f"{folder.name} is not complete"
        for index in checkpoint.glob("*.index.json"):
            for name in sorted(set(json.loads(index.read_bytes())["weight_map"].values())):
                if not (checkpoint / name).is_file():
                    return f"{name} is missing"
        for path in sorted(checkpoint.iterdir()):
            if path.suffix == ".safetensors" and not _whole_safetensors(path):
                return f"{path.name} is cut off"
            if path.suffix in (".pt", ".pth", ".bin") and path.name != "training_args.bin" and not _whole_zip(path):
                return f"{path.name} is cut off"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{STATE} cannot be read"
    return None


def _whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if not 0 < header <= size - 8:
            return False
        entries = json.loads(file.read(header))
    ends = [int(entry["data_offsets"][1]) for name, entry in entries.items() if name != "__metadata__"]
    return size == 8 + header + max(ends, default=0)


def _whole_zip(path: Path) -> bool:
    """Whether torch's file has its end; older ones are no zip files and begin with pickle's mark."""
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            return True
    return zipfile.is_zipfile(path)
