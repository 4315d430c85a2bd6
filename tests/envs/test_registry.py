"""`make`: environments by name."""

import subprocess
import sys

import pytest

from rao_rl.envs import ENVIRONMENTS, make
from recursive_agent import ConfigurationError


def test_makes_the_environment_with_its_arguments() -> None:
    environment = make("textcraft", mode="single", inventory="tight")
    assert (environment.name, environment.max_depth) == ("textcraft", 0)
    assert make("textcraft").max_depth == 12


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=", ".join(ENVIRONMENTS)):
        make("minecraft")


@pytest.mark.parametrize("arguments", [{"nams": "words"}, {"names": "latin"}, {"mode": "both"}, {"inventory": "empty"}])
def test_a_wrong_argument_is_a_configuration_error(arguments: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="textcraft: "):
        make("textcraft", **arguments)


def test_environments_import_without_torch() -> None:
    code = "import sys, rao_rl.envs; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
