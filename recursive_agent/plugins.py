"""Other people's sandboxes, environments and scorers by name: an entry point of an installed package, or `module:name`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from .errors import ConfigurationError, described

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

T = TypeVar("T", bound=Callable[..., object])


@dataclass(frozen=True)
class Included(Mapping[str, T]):
    """Parts of this project by name, each imported when it is first asked for."""

    package: str
    places: Mapping[str, str]
    """For each name the place below the package, as `module:name`."""

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self.places[name].partition(":")
        found: T = getattr(importlib.import_module(f".{module}", self.package), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Plugins(Generic[T]):
    """One kind of parts, such as sandboxes: those of this project, and the group of entry points that adds to them."""

    kind: str
    """What a part is called in errors."""
    group: str
    built_in: Mapping[str, T]
    """Parts that no package can take the name of."""
    form: str
    """How a part of a module is written, with an example."""
    result: str
    """What the callable of a part returns, in words."""

    def names(self) -> list[str]:
        """Every name that `find` knows on this machine."""
        return sorted({*self.built_in, *(point.name for point in _entry_points(self.group))})

    def find(self, name: str) -> T:
        """The callable of a name, or of `module:name`, whose module it imports and so runs.

        Raises ConfigurationError if there is none (the message lists the known names), if it cannot be loaded, or if it
        cannot be called.
        """
        if name in self.built_in:
            return self.built_in[name]
        points = {point.name: point for point in _entry_points(self.group)}
        if name in points:
            point = points[name]
            package = point.dist.name if point.dist is not None else point.module
            try:
                found: object = point.load()
            except (Exception, SystemExit) as error:  # whatever a package raises as it is imported
                raise ConfigurationError(
                    f"the {self.kind} {name!r} cannot be loaded ({described(error)}); reinstall the package {package}, "
                    "which registers it"
                ) from error
        elif ":" in name:
            found = load_reference(name, self.form)
        else:
            known = ", ".join(map(repr, self.names()))
            raise ConfigurationError(
                f"there is no {self.kind} {name!r}; choose from {known}. For another one, install the package that provides it "
                f"(it registers the entry point {name!r} in the group {self.group}), or name it as 'module:Class'."
            )
        if not callable(found):
            raise ConfigurationError(
                f"the {self.kind} {name!r} is {found!r:.80}; it must be a class, or a function that returns {self.result}"
            )
        return found  # type: ignore[return-value]  # what it returns is checked when it is called


def _entry_points(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # slow to import, and parts of this project need none

    return entry_points(group=group)


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
