"""Sandboxes by name: those that come with this package, and other people's by entry point."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Literal, Protocol, TypeAlias

from ..errors import ConfigurationError
from ..plugins import Plugins
from .base import Sandbox
from .host import ProcessSandbox
from .inprocess import InProcessSandbox
from .namespaces import NamespaceSandbox

GROUP = "recursive_agent.sandboxes"
"""Entry points of this group are sandboxes by name; the value of each is a `SandboxFactory`."""


class Unset(Enum):
    """The type of `UNSET`, the value of a setting that the caller left out."""

    UNSET = "unset"


UNSET = Unset.UNSET
Require: TypeAlias = Literal["kernel"] | None
"""`"kernel"`: refuse to run where the code of an agent is not really locked in. None: run all the same."""


class SandboxFactory(Protocol):
    """Creates a sandbox: the value of an entry point of the group `recursive_agent.sandboxes`, such as a class.

    `require` is left out where the user did not set it, so its default decides; it should be `"kernel"`. With it, entering
    the sandbox raises SandboxError, which says what is missing and what to do, where the machine cannot keep the code of
    an agent from files, network and other processes. A sandbox that never can raises ConfigurationError for `"kernel"`.
    """

    def __call__(self, *, require: Require = ...) -> Sandbox:
        """The sandbox, not yet entered."""


def _inprocess(*, require: Require = None) -> Sandbox:
    _check_inprocess(require)
    return InProcessSandbox()


def _check_inprocess(require: Require | Unset) -> None:
    if require == "kernel":
        raise ConfigurationError(
            'require="kernel" needs sandbox="process" or a stronger one: "inprocess" isolates nothing'
        )


BUILT_IN: Mapping[str, SandboxFactory] = {
    "process": ProcessSandbox,
    "namespaces": NamespaceSandbox,
    "inprocess": _inprocess,
}


_PLUGINS = Plugins("sandbox", GROUP, BUILT_IN, "module:Class, such as mypackage.cages:Cage", "a Sandbox")


def sandbox_names() -> list[str]:
    """Every name that `make_sandbox` knows on this machine."""
    return _PLUGINS.names()


def find_sandbox(name: str) -> SandboxFactory:
    """The factory of a name, or of `module:Class`. Raises ConfigurationError, which lists the known names."""
    return _PLUGINS.find(name)


def check_sandbox(name: str, require: Require | Unset) -> None:
    """Check a setting without starting anything. Raises ConfigurationError for an unknown name or an impossible `require`."""
    find_sandbox(name)
    if name == "inprocess":
        _check_inprocess(require)


def make_sandbox(backend: str, *, require: Require | Unset = UNSET) -> Sandbox:
    """Create the sandbox of that name; enter it with `async with`.

    Unless `require` says otherwise, `process` and `namespaces` refuse to start, with SandboxError, on a machine whose kernel
    does not lock the agents' code in. Raises ConfigurationError for an unknown name, and for a sandbox that cannot do what
    `require` asks.
    """
    factory = find_sandbox(backend)
    options: dict[str, Require] = {} if isinstance(require, Unset) else {"require": require}
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise ConfigurationError(
            f"the sandbox {backend!r} does not take the keyword argument require: {error}"
        ) from None
    sandbox: object = factory(**options)
    if not isinstance(sandbox, Sandbox):
        raise ConfigurationError(
            f"the factory of the sandbox {backend!r} must return a Sandbox, not an object of type {type(sandbox).__name__}"
        )
    return sandbox
