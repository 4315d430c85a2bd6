"""The ways in which agents are addressed and answer, by name."""

from typing import Literal

PromptStyle = Literal["rich", "minimal"]
ActionFormat = Literal["fenced", "tags", "tool"]
