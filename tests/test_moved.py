"""Old names of modules still lead to what they held."""

import subprocess
import sys
from importlib import import_module

import pytest

from rao_rl.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_leads_to_modules_that_are_there(old: str) -> None:
    sys.modules.pop(f"rao_rl.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"rao_rl.{old} has moved to"):
        module = import_module(f"rao_rl.{old}")
    for place in MOVED[old]:
        new = import_module(f"rao_rl.{place}")
        public = [name for name, value in vars(new).items() if getattr(value, "__module__", "") == new.__name__]
        assert all(hasattr(module, name) for name in public if not name.startswith("_"))
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        _ = module.nowhere


def test_a_program_of_before_runs() -> None:
    program = """
from rao_rl.export import load_checkpoint, write_checkpoint
from rao_rl.sampler import TorchModel
import rao_rl
assert callable(rao_rl.rollout) and callable(rao_rl.export_rows)
try:
    import rao_rl.nothing
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "No module named 'rao_rl.nothing'\n"
    assert done.stderr.count("DeprecationWarning") == 2
