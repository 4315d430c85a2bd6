"""Opens a checkpoint folder as a model in this process, whoever wrote it.

The light runtime runs it if the folder has a graph for it, torch otherwise. Torch is imported only if it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recursive_agent.checkpoint import CONFIG, FILE_NAME, CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Sampling
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.graph import GRAPH
from recursive_agent.model.local import LocalModel
from recursive_agent.model.template import CheckpointRenderer

if TYPE_CHECKING:
    import tokenizers

_TOKENIZER = "tokenizer.json"
LARGEST_EMBEDDED = 200_000_000
"""Parameters up to which the light runtime is used: it computes in float32 on one thread, and torch on all."""
_FLOAT32 = 4
_LIGHT_BATCH = 64
_NO_TORCH = (
    "running {folder} here needs PyTorch: pip install 'rao[train]' ({missing} is missing); or serve the model elsewhere and "
    "give its --base-url"
)


def open_folder(
    directory: str | Path,
    *,
    sampling: Sampling | None = None,
    seed: int | None = None,
    max_batch: int | None = None,
    settings: CheckpointSettings | None = None,
) -> LocalModel:
    """The model in a checkpoint folder, to be sampled in this process. At most `max_batch` calls are sampled together
    (default: 64, on a GPU 256).

    `settings` take the place of those in the folder (see `CheckpointSettings.of`). `LocalModel.notes` says how it runs, if
    rao did not write it. Raises ConfigurationError in one sentence if the folder contains no model that can be run here.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigurationError(f"{directory}: there is no such directory; give the folder of a model")
    if runs_light(folder):
        return EmbeddedModel(
            folder, sampling=sampling, seed=seed, max_batch=max_batch or _LIGHT_BATCH, settings=settings
        )
    settings = settings or CheckpointSettings.of(folder)
    if not (folder / CONFIG).is_file():
        raise ConfigurationError(f"{folder} contains no model: it has no {CONFIG}")
    try:
        from .checkpoint import load_policy
        from .placement import placement
        from .torch_model import TorchModel
        from .uncached import UncachedEngine, samples_as_it_reads
    except ModuleNotFoundError as error:
        raise ConfigurationError(_NO_TORCH.format(folder=folder, missing=error.name)) from error
    place = placement(folder)
    renderer = CheckpointRenderer(folder, tokenizer=_converted(folder))
    policy = load_policy(folder, dtype=place.dtype).to(place.device)
    own: Any = {"share": True, "settings": settings, "sampling": sampling, "seed": seed, "max_batch": max_batch}
    own["renderer"] = renderer
    name = f"{policy.config.model_type} model"
    how = f"runs in this process with torch ({name}, {place})"
    try:
        model = TorchModel(policy, folder, **own)
        samples_as_it_reads(model.engine)
    except ConfigurationError:
        model = TorchModel(policy, folder, engine=UncachedEngine, **own)
        how += ", and slowly, since every token is computed from the whole text before it"
    model.notes.insert(0, f"{how}; a server is faster: rao serve {folder}")
    return model


def runs_light(directory: str | Path) -> bool:
    """Whether a folder is for the runtime without torch: a small model with a graph. Large ones are too slow there."""
    folder = Path(directory)
    if not (folder / GRAPH).is_file():
        return False
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= LARGEST_EMBEDDED * _FLOAT32


def describe(directory: str | Path) -> str:
    """What a folder with a model is, for people: who wrote it, its architecture and context window, and what runs it here."""
    folder = Path(directory)
    settings = CheckpointSettings.of(folder)
    from recursive_agent.checkpoint import text_config

    kind = text_config(folder).get("model_type", "unknown")
    window = "an unknown context window" if settings.context_length is None else f"{settings.context_length:,} tokens"
    written = (
        "written by rao" if (folder / FILE_NAME).is_file() else f"without {FILE_NAME}: prompt style rich, fenced code"
    )
    runs = "the light runtime" if runs_light(folder) else "torch in this process, or rao serve"
    return f"{settings.name}: a {kind} model of {window}, {written}; it runs by {runs}"


def _converted(folder: Path) -> tokenizers.Tokenizer | None:
    """The tokenizer of a folder without tokenizer.json, as transformers converts it."""
    if (folder / _TOKENIZER).is_file():
        return None
    import transformers

    try:
        backend: Any = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    except Exception as error:  # the readers of tokenizers raise what they like
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(
            f"{folder} has no tokenizer that can be read; put its tokenizer.json there ({reason})"
        ) from error
    tokenizer: tokenizers.Tokenizer = backend
    return tokenizer
