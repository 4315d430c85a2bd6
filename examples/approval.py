"""Approval: a mail and a sub-agent wait for a yes. Runs without a key, on a scripted model.

    python examples/approval.py                 # asks you about each call
    python examples/approval.py --policy        # a function decides instead

The agent drafts two mails, each in a sub-agent, and sends them. With --policy, launches get a smaller share of tokens than
they asked for, and mails to other companies are refused.
"""

from __future__ import annotations

import sys

import anyio

from recursive_agent import Agent, Approval, Approve, PendingCall
from recursive_agent.testing import ScriptedEndpoint, by_goal

DESK = """```python
people = ['ann@example.org', 'bob@elsewhere.net']
texts = await asyncio.gather(*[launch_subagent(f'Draft a mail to {who}', max_tokens=50_000) for who in people])
sent = []
for who, text in zip(people, texts):
    try:
        sent.append(await send_mail(who, text))
    except ToolError as error:
        sent.append(f'{who}: {error}')
finish(sent)
```"""
SCRIPT = by_goal({"Invite": DESK, "Draft a mail": "```python\nfinish('Please come on Friday.')\n```"})


def send_mail(to: str, text: str) -> str:
    """Send a mail."""
    return f"{to}: sent"


def policy(call: PendingCall) -> bool | str | Approval:
    """Decide without asking anybody."""
    if call.kind == "launch":
        return Approval(True, arguments={**call.arguments, "max_tokens": 20_000})
    return True if call.arguments["to"].endswith("@example.org") else "mails to other companies are not allowed"


def ask(call: PendingCall) -> bool | str:
    """Ask on the terminal. Rao runs this in a thread, one call at a time."""
    print(f"agent {call.node} ({call.run_usage.total_tokens:,} tokens so far): {call.name} {dict(call.arguments)}")
    answer = input("Run it? [y, or the reason to refuse] ").strip()
    return True if answer == "y" else answer


async def main() -> None:
    approve = Approve(policy if "--policy" in sys.argv else ask, tools=[send_mail], launches=True)
    with ScriptedEndpoint(SCRIPT) as endpoint:
        agent = Agent("scripted", endpoint.base_url, tools=[send_mail], approve=approve)
        result = await agent.solve("Invite Ann and Bob.")
    print("\n".join(result.output))
    for answer in result.tree.approvals:
        print(f"{answer.node} {answer.name}: {'approved' if answer.allowed else answer.reason}")


if __name__ == "__main__":
    anyio.run(main)
