"""`agent.json`: the prompt a policy was trained with is part of the policy, so it travels in the checkpoint directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigurationError

FILE_NAME = "agent.json"
PromptStyle = Literal["rich", "minimal"]
ActionFormat = Literal["fenced", "tags", "tool"]


class EnvironmentSettings(BaseModel):
    """The environment a specialist knows: its name and the arguments that make it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class CheckpointSettings(BaseModel):
    """Contents of `agent.json`: written by `rao train`, read by `rao run`, `rao eval` and `rao serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    name: str
    version: str | None = None
    prompt_style: PromptStyle = "rich"
    action_format: ActionFormat = "fenced"
    context_length: int | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    environment: EnvironmentSettings | None = None

    @classmethod
    def load(cls, directory: str | Path) -> CheckpointSettings:
        """Read `directory/agent.json`. Raises ConfigurationError, naming the file, when it is missing or wrong."""
        path = Path(directory) / FILE_NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read ({error.strerror}); is this a rao checkpoint?") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{path}: {where or 'contents'}: {first['msg']}") from error

    def save(self, directory: str | Path) -> None:
        """Write `directory/agent.json`."""
        (Path(directory) / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
