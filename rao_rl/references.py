"""Loads an object that a user names as `module:name`: an environment, a scorer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from recursive_agent.errors import ConfigurationError, described


def load_reference(reference: str, form: str) -> object:
    """The object that `module:name` names; modules are also looked for in the current directory.

    Imports the module, which runs its code. Raises ConfigurationError if there is no such module or name, or if the
    import fails; `form` shows the user what a reference looks like (`module:function, such as app:score`).
    """
    module_name, _, path = reference.partition(":")
    names = path.split(".")
    if module_name.endswith(".py") or not all(part.isidentifier() for part in [*module_name.split("."), *names]):
        raise ConfigurationError(f"{reference!r} must be written as {form}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever a module raises as it is imported
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"{reference}: the module {error.name} cannot be found; run rao in the folder that contains it, or install it"
            ) from error
        raise ConfigurationError(f"{reference}: importing {module_name} failed: {described(error)}") from error
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ConfigurationError(f"{reference}: the module {module_name} has no {path}") from None
    return found
