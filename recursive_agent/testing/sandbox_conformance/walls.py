"""Walls between a sandbox, its siblings and the host."""

from __future__ import annotations

import math
import os
import socket
import sys
from pathlib import Path

import anyio
import pytest

from ...repl.base import CellStatus, Sandbox
from .suite import PATIENCE, SECRET, Open, Suite, ok


class Walls(Suite):
    """Walls between a sandbox, its siblings and the host."""

    async def test_repls_share_nothing(self, opened: Open) -> None:
        """Neither variables nor what the code did to modules."""
        async with opened(context={"a": [1]}) as first, opened(context={"a": [1]}) as second:
            await ok(first, "import random\nrandom.seed(7)\nsecret = 'mine'\ncontext['a'].append(2)")
            result = await second.run("secret")
            assert result.status == CellStatus.ERROR
            assert "NameError" in str(result.error)
            assert await ok(second, "context['a']") == "[1]\n"

    async def test_layers_are_named(self, sandbox: Sandbox) -> None:
        """By `enforced`, a set of names; a sandbox that isolates has some."""
        assert isinstance(sandbox.enforced, frozenset)
        assert all(isinstance(layer, str) for layer in sandbox.enforced)
        assert sandbox.enforced or "isolation" not in self.claims

    @pytest.mark.parametrize("attempt", ["environment", "arguments", "file", "write", "folder", "network", "process"])
    async def test_cells_see_nothing_of_the_host(
        self, opened: Open, attempt: str, canaries: tuple[Path, socket.socket]
    ) -> None:
        """No environment, command line, file, network or process, and they change none."""
        self.promises("isolation")
        file, listener = canaries
        code = {
            "environment": "import os\nprint(dict(os.environ))",
            "arguments": f"print(open('/proc/{os.getpid()}/cmdline').read())",
            "file": f"print(open({str(file)!r}).read())",
            "write": f"open({str(file.with_name('new'))!r}, 'w').write('x')",
            "folder": f"import os\nprint(os.listdir({str(file.parent)!r}))",
            "network": f"import socket\nsocket.create_connection(('127.0.0.1', {listener.getsockname()[1]}), 5)",
            "process": f"import os\nos.kill({os.getpid()}, 0)\nprint({SECRET!r})",
        }[attempt]
        async with opened() as repl:
            result = await repl.run(code)
        said = result.output + str(result.error)
        assert SECRET not in said.replace(repr(SECRET), "")
        assert file.name not in result.output
        assert " ".join(sys.orig_argv) not in said

    async def test_nothing_that_happens_in_a_cell_is_lost_on_the_clock(self, opened: Open) -> None:
        """Cells are quick: a hundred small ones take no time that anybody would notice."""
        async with opened() as repl:
            with anyio.fail_after(PATIENCE):
                for number in range(100):
                    result = await repl.run(f"x = {number}")
                    assert result.status == CellStatus.OK
                    assert math.isfinite(result.wall)
            assert await ok(repl, "x") == "99\n"
