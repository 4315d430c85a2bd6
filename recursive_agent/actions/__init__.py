"""From a model's answer to the code to run."""

from .parsing import Action, parse_action
from .python_calls import PYTHON_TOOL
from .supplies import Supplied, Supplies

__all__ = ["PYTHON_TOOL", "Action", "Supplied", "Supplies", "parse_action"]
