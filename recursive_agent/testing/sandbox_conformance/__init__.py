"""What every sandbox must do, as tests that any sandbox can run. Needs pytest.

    from recursive_agent.testing.sandbox_conformance import CLAIMS, SandboxConformance

    class TestMySandbox(SandboxConformance):
        claims = CLAIMS - {"memory"}  # what it does not promise; those tests are skipped, with the reason

        def make_sandbox(self) -> Sandbox:
            return MySandbox()

The tests are asynchronous, on anyio's own pytest plugin, which comes with anyio.
"""

from __future__ import annotations

from .calls import HostCalls
from .cells import Cells
from .ends import Ends
from .suite import CLAIMS, FUNCTIONS, Host, Open
from .walls import Walls

__all__ = ["CLAIMS", "FUNCTIONS", "Host", "Open", "SandboxConformance"]


class SandboxConformance(Cells, HostCalls, Ends, Walls):
    """The tests. Inherit, name the class `Test…`, and write `make_sandbox`."""
