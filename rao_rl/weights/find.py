"""Where a model is: a folder here, the cache of the model hub, or the hub, which is asked once and briefly."""

from __future__ import annotations

import os
import re
from pathlib import Path

from recursive_agent.errors import ConfigurationError

_SECONDS = 5.0
"""How long the hub has to answer; a network without a way out often drops what is sent instead of refusing it."""
_HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+")


def find_model(model: str | Path) -> str:
    """The folder of a model, or its name on the hub. Raises ConfigurationError, at once, where there is neither."""
    name = str(model)
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigurationError(
                f"{name} is not a checkpoint that transformers can load: the folder has no config.json"
                + _hint_of_folder(folder)
            )
        return name
    if folder.exists():
        raise ConfigurationError(
            f"{name} is not a checkpoint that transformers can load: it is a file; give the folder of the model"
        )
    if name.startswith(("/", ".", "~")) or not _HUB_NAME.fullmatch(name) or name.endswith((".", "-")):
        raise ConfigurationError(f"{name} is not a checkpoint that transformers can load: there is no such folder")
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        _ask_hub(name)
    return name


def _hint_of_folder(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "; it is a LoRA adapter, so merge it into its base model first (peft's merge_and_unload) and give that folder"
    if any(folder.glob("*.gguf")):
        return "; it holds a GGUF file, so convert that into a checkpoint of transformers first"
    return ""


def _ask_hub(name: str) -> None:
    """Raises ConfigurationError where the hub has no such model, or does not answer."""
    from huggingface_hub import HfApi, errors

    missing = f"{name} is not a checkpoint that transformers can load: there is no such folder"
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigurationError(f"{missing}, and HF_HUB_OFFLINE keeps the model hub from being asked")
    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except errors.GatedRepoError:
        return  # it is there; whether it may be loaded is said by what loads it
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise ConfigurationError(f"{missing}, and the model hub knows no such model") from None
    except Exception as error:  # of whatever library the hub's client uses to connect
        reason = type(error).__name__
        raise ConfigurationError(f"{missing}, and the model hub cannot be reached ({reason})") from None
