"""Trees for the page of the viewer: from events, as traces of real runs hold them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recursive_agent.messages import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import (
    ApprovalAnswered,
    CellRan,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Scored,
    Steered,
)
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

START = 1_790_000_000.0
MODEL = "qwen3-8b"


@dataclass
class Recording:
    """Events of a run, written agent by agent and put in order of time; times count from the start of the run."""

    run: str = "20261127T090000-demo"
    events: list[Event] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Usage] = field(default_factory=dict)

    def start(self, node: str, at: float, goal: str, *, step: int = 1, **more: Any) -> None:
        """An agent is launched, in this step of its parent."""
        parent = node.rpartition(".")[0] or None
        launch = {"step": step, "call": int(node.rpartition(".")[2]) + 1} if parent else {}
        self.events.append(
            NodeStarted(
                time=START + at, node=node, parent=parent, depth=node.count("."), goal=goal, **{**launch, **more}
            )
        )

    def think(
        self, node: str, step: int, at: float, to: float, text: str, messages: Sequence[Message], **more: Any
    ) -> None:
        """A model call."""
        usage = more.pop("usage", Usage(calls=1, prompt_tokens=410 + 260 * step, completion_tokens=8 + len(text) // 4))
        self.used[node] = self.used.get(node, Usage()) + usage
        self.events.append(
            ModelCalled(
                **{
                    "time": START + to,
                    "node": node,
                    "step": step,
                    "started": START + at,
                    "messages": tuple(messages),
                    "text": text,
                    "finish_reason": "stop",
                    "usage": usage,
                    "model": MODEL,
                    **more,
                }
            )
        )

    def run_cell(self, node: str, step: int, at: float, to: float, code: str, output: str = "", **more: Any) -> None:
        """A cell."""
        given = {"status": "error" if more.get("error") else "ok", "output": output, "cpu": (to - at) / 50, **more}
        self.events.append(CellRan(time=START + to, node=node, step=step, started=START + at, code=code, **given))

    def call(self, node: str, step: int, call: int, at: float, to: float, name: str, *args: Any, **more: Any) -> None:
        """A host call."""
        self.events.append(
            HostCalled(
                time=START + to, node=node, step=step, call=call, started=START + at, name=name, args=args, **more
            )
        )

    def end(self, node: str, at: float, status: Status = Status.FINISHED, **more: Any) -> None:
        """An agent ends."""
        usage = self.used.get(node, Usage())
        self.events.append(NodeEnded(time=START + at, node=node, status=status, usage=usage, **more))

    def score(self, node: str, at: float, score: float) -> None:
        """An agent is scored."""
        self.events.append(Scored(time=START + at, node=node, score=score))

    def add(self, event: Event) -> None:
        """Any other event."""
        self.events.append(event)

    def tree(self, *, status: Status | None = Status.FINISHED) -> ExecutionTree:
        """The tree; without a status the run has no end."""
        events = sorted(self.events, key=lambda event: event.time)
        limits = {"max_steps": 12, "max_tokens": 60_000, "max_depth": 3}
        first = RunStarted(
            time=START, run=self.run, model=MODEL, interface="chat", limits=limits, settings=self.settings
        )
        used = [event.usage for event in events if isinstance(event, ModelCalled)]
        last = (
            []
            if status is None
            else [RunEnded(time=max(e.time for e in events), status=status, usage=sum(used, Usage()))]
        )
        return ExecutionTree.from_events([first, *events, *last])


SYSTEM = (
    "You are an agent that writes Python. Answer with one block of code; its output is what you see next.\n"
    "`await launch_subagent(goal, context=...)` starts an agent like you on a part of the task and returns its result.\n"
    "`finish(value)` ends your work with a result."
)


def _opening(goal: str, context: str = "") -> list[Message]:
    return [Message("system", SYSTEM), Message("user", f"Goal: {goal}\n{context}".rstrip())]


def _block(words: str, code: str) -> str:
    return f"{words}\n```python\n{code}\n```"


QUARTERS = {
    "Q1": ("Retail +1.2, Foods +0.4, Freight +0.1", 1.9),
    "Q2": ("Retail +1.0, Foods +0.5, Freight -0.2", 2.6),
    "Q3": ("Retail +1.3, Foods +0.2, Freight -0.6", 2.2),
    "Q4": ("Retail +0.9, Foods +0.3, Freight -1.4", 3.1),
}


def reports(*, fails: bool = False, run: str = "20261127T090000-reports") -> ExecutionTree:
    """A root that has four reports read at the same time; one of the readers has a table checked.

    With `fails`, the table is not where it is looked for: its agent, and with it all above, use up their steps.
    """
    recording = Recording(run, settings={"sandbox": "process"})
    goal = "Read the four quarterly reports and say which division lost the most money, and why."
    recording.start("0", 0.0, goal, max_steps=2 if fails else 12, context={"reports": ["Q1", "Q2", "Q3", "Q4"]})
    code = (
        "# One agent for each report, all at once\n"
        "import asyncio\n"
        "goals = [f'Read report {name} and give the result of each division' for name in context['reports']]\n"
        "found = await asyncio.gather(*(launch_subagent(goal) for goal in goals))\n"
        "print(found)"
    )
    recording.think(
        "0",
        1,
        0.05,
        1.4,
        _block("Each report can be read on its own, so I hand each to a sub-agent.", code),
        _opening(goal, "context: a dict with one key, 'reports' (4 names)"),
        reasoning="The four reports do not depend on each other. If I launch one agent for each and await them together, "
        "the run takes as long as the slowest of them.",
    )
    ends = []
    for i, (name, (line, length)) in enumerate(QUARTERS.items()):
        ends.append(_reader(recording, f"0.{i}", name, line, 1.5 + 0.06 * i, length, fails=fails and name == "Q4"))
    done = max(ends) + 0.05
    for i, name in enumerate(QUARTERS):
        failed = fails and name == "Q4"
        recording.call(
            "0",
            1,
            i + 1,
            1.45 + 0.06 * i,
            ends[i] + 0.02,
            "launch_subagent",
            f"Read report {name} and give the result of each division",
            child=f"0.{i}",
            **(
                {"error": "SubagentError: step_limit: The agent used its 3 model calls without finishing."}
                if failed
                else {"result": QUARTERS[name][0]}
            ),
        )
    if fails:
        recording.run_cell(
            "0",
            1,
            1.42,
            done,
            code,
            error="Traceback (most recent call last):\n  cell 1, line 4\nSubagentError: agent 0.3 did not finish: step_limit",
        )
        again = "print([result for result in partial if result])"
        recording.think(
            "0",
            2,
            done + 0.1,
            done + 1.2,
            _block("One of the agents failed. I look at what the others found.", again),
            [Message("user", "Error:\nSubagentError: agent 0.3 did not finish: step_limit")],
        )
        recording.run_cell(
            "0",
            2,
            done + 1.2,
            done + 1.3,
            again,
            error="Traceback (most recent call last):\n  cell 2, line 1\nNameError: name 'partial' is not defined",
        )
        recording.end("0", done + 1.3, Status.STEP_LIMIT, reason="The agent used its 2 model calls without finishing.")
        for node, score in (("0", 0.0), ("0.0", 1.0), ("0.1", 1.0), ("0.2", 0.5)):
            recording.score(node, done + 1.4, score)
        return recording.tree(status=Status.STEP_LIMIT)
    recording.run_cell("0", 1, 1.42, done, code, f"{[line for line, _ in QUARTERS.values()]}\n")
    last = "finish({'division': 'Freight', 'loss': 2.1, 'why': 'fuel and the strike of the fourth quarter'})"
    recording.think(
        "0",
        2,
        done + 0.1,
        done + 1.0,
        _block("Freight has the largest loss over the year.", last),
        [Message("user", f"Output:\n{[line for line, _ in QUARTERS.values()]}\n")],
    )
    recording.run_cell("0", 2, done + 1.0, done + 1.05, last)
    result = {"division": "Freight", "loss": 2.1, "why": "fuel and the strike of the fourth quarter"}
    recording.end("0", done + 1.05, result=result)
    for node, score in (("0", 1.0), ("0.0", 1.0), ("0.1", 1.0), ("0.2", 0.5), ("0.3", 1.0)):
        recording.score(node, done + 1.2, score)
    return recording.tree()


def _reader(recording: Recording, node: str, name: str, line: str, at: float, length: float, *, fails: bool) -> float:
    goal = f"Read report {name} and give the result of each division"
    recording.start(node, at, goal, max_steps=3)
    code = f"text = await read_file('{name}.txt')\nprint(text[:2000])"
    recording.think(node, 1, at + 0.05, at + length * 0.4, _block("First the text.", code), _opening(goal))
    reading = at + length * 0.4
    recording.call(node, 1, 1, reading + 0.01, reading + 0.25, "read_file", f"{name}.txt", result=f"{name}: {line}")
    recording.run_cell(node, 1, reading, reading + 0.3, code, f"{name}: {line}\n")
    at_2 = reading + 0.35
    if name != "Q4":
        last = f"finish({line!r})"
        recording.think(
            node, 2, at_2, at + length, _block("That is all.", last), [Message("user", f"Output:\n{name}: {line}")]
        )
        recording.run_cell(node, 2, at + length, at + length + 0.05, last)
        recording.end(node, at + length + 0.05, result=line)
        return at + length + 0.05
    check = "sums = await launch_subagent('Check the totals of the table on page 14')\nprint(sums)"
    recording.think(
        node, 2, at_2, at_2 + 0.8, _block("The totals look wrong; I have them checked.", check), [Message("user", line)]
    )
    child, begun = f"{node}.0", at_2 + 0.85
    recording.start(child, begun, "Check the totals of the table on page 14", step=2, max_steps=3)
    now = begun
    for step in (1, 2, 3):
        code = f"table = tables['page 14']\nprint(sum(row[{step}] for row in table))"
        recording.think(
            child,
            step,
            now + 0.02,
            now + 0.6,
            _block("I add the columns up.", code),
            _opening("Check the totals of the table on page 14") if step == 1 else [Message("user", "Output:\n-1.4")],
        )
        wrong = "Traceback (most recent call last):\n  cell, line 1\nKeyError: 'page 14'" if fails else None
        recording.run_cell(child, step, now + 0.6, now + 0.72, code, "" if fails else "-1.4\n", error=wrong)
        now += 0.75
        if not fails and step == 2:
            break
    limit = {"status": Status.STEP_LIMIT, "reason": "The agent used its 3 model calls without finishing."}
    if fails:
        recording.end(child, now, **limit)
        recording.call(node, 2, 1, begun - 0.01, now + 0.02, "launch_subagent", error="step_limit", child=child)
        recording.run_cell(
            node,
            2,
            begun - 0.03,
            now + 0.05,
            check,
            error=f"Traceback (most recent call last):\n  cell 2, line 1\nSubagentError: agent {child} did not finish",
        )
        recording.think(
            node, 3, now + 0.1, now + 0.7, "I cannot check the table.", [Message("user", "Error: SubagentError")]
        )
        recording.end(node, now + 0.75, **limit)
        return now + 0.75
    recording.end(child, now, result={"Freight": -1.4})
    recording.call(node, 2, 1, begun - 0.01, now + 0.02, "launch_subagent", result={"Freight": -1.4}, child=child)
    recording.run_cell(node, 2, begun - 0.03, now + 0.05, check, "{'Freight': -1.4}\n")
    last = f"finish({line!r})"
    recording.think(
        node, 3, now + 0.1, now + 0.6, _block("The totals are right.", last), [Message("user", "{'Freight': -1.4}")]
    )
    recording.run_cell(node, 3, now + 0.6, now + 0.65, last)
    recording.end(node, now + 0.65, result=line)
    return now + 0.65


def steered() -> ExecutionTree:
    """A run that was steered, asked for approval, and resumed; its conversation was compacted once."""
    recording = Recording("20261127T100000-steered")
    recording.start("0", 0.0, "Tidy the folder")
    recording.think("0", 1, 0.1, 1.0, _block("Look first.", "print(list_files())"), _opening("Tidy the folder"))
    recording.run_cell("0", 1, 1.0, 1.2, "print(list_files())", "a.txt\nb.txt\n")
    recording.add(Steered(time=START + 1.3, action="tell", node="0", text="Leave b.txt alone."))
    recording.think(
        "0", 2, 1.4, 2.0, "So far: two files were seen.", [Message("user", "Write a summary.")], purpose="summary"
    )
    recording.think(
        "0",
        2,
        2.1,
        3.0,
        _block("Delete one.", "delete('a.txt')"),
        [Message("system", SYSTEM), Message("user", "Summary: two files were seen. Leave b.txt alone.")],
        restart=True,
    )
    recording.add(
        ApprovalAnswered(
            time=START + 5.0,
            node="0",
            step=2,
            call=1,
            name="delete",
            started=START + 3.1,
            allowed=False,
            reason="Not without a copy.",
        )
    )
    recording.call("0", 2, 1, 3.1, 5.0, "delete", "a.txt", error="Refused: Not without a copy.")
    recording.run_cell("0", 2, 3.0, 5.1, "delete('a.txt')", error="ApprovalError: Not without a copy.")
    recording.add(
        RunResumed(time=START + 6.0, at=START + 900.0, usage=Usage(), model=MODEL, question="And what is left?")
    )
    recording.think("0", 3, 6.1, 7.0, _block("Both.", "finish(2)"), [Message("user", "And what is left?")])
    recording.run_cell("0", 3, 7.0, 7.1, "finish(2)")
    recording.end("0", 7.1, result=2)
    return recording.tree()


def killed() -> ExecutionTree:
    """A trace whose process was killed: one agent waits for another one, which runs code."""
    recording = Recording("20261127T110000-killed")
    recording.start("0", 0.0, "Wait for a sub-agent")
    recording.think("0", 1, 0.1, 1.0, _block("Launch.", "await launch_subagent('Compute')"), _opening("Wait"))
    recording.start("0.0", 1.1, "Compute for ever")
    recording.think("0.0", 1, 1.2, 2.0, _block("Compute.", "while True: pass"), _opening("Compute for ever"))
    return recording.tree(status=None)


def chain(depth: int = 100) -> ExecutionTree:
    """Agents each of which only launches the next one, until the tree has no tokens left."""
    recording = Recording("20261127T120000-chain")
    nodes = [".".join(["0"] * (i + 1)) for i in range(depth + 1)]
    for i, node in enumerate(nodes):
        recording.start(node, i * 1.0, f"Solve it, or hand it to somebody else ({i})")
        code = "finish(await launch_subagent('Solve it, or hand it to somebody else'))"
        recording.think(node, 1, i + 0.1, i + 0.9, _block("Somebody else should.", code), _opening("Solve it"))
    for i, node in reversed(list(enumerate(nodes))):
        recording.end(
            node,
            depth + 1 + (depth - i) * 0.01,
            Status.TREE_BUDGET,
            reason="The agents of the tree together used all of max_tokens = 60,000.",
        )
    return recording.tree(status=Status.TREE_BUDGET)


def no_steps() -> ExecutionTree:
    """A run whose endpoint could not be reached."""
    recording = Recording("20261127T130000-nothing")
    recording.start("0", 0.0, "Say hello")
    recording.end(
        "0",
        3.0,
        Status.INFRA_ERROR,
        reason="The endpoint http://localhost:8000/v1 refused the connection (4 attempts).",
    )
    return recording.tree(status=Status.INFRA_ERROR)


MARKUP = (
    "<script>globalThis.harmed = 1</script><img src=x onerror='globalThis.harmed=1'></script><!--<svg/onload=harmed=1>"
    "\"'`${globalThis.harmed=1}&lt;b&gt; \u202eevil\u2066 \x1b[31mred\x07\x00 \u200b\ufeff \ud800 \U000e0041 "
    "<a href='javascript:globalThis.harmed=1'>x</a><style>*{display:none}</style>"
)


def hostile() -> ExecutionTree:
    """A run with markup, marks of direction, controls and huge lines in every field."""
    recording = Recording(MARKUP[:40], settings={MARKUP: MARKUP})
    long = MARKUP + "x" * 60_000
    recording.start("0", 0.0, long, context={MARKUP: long}, returns={"title": MARKUP, "type": "string"})
    messages = [Message("system", MARKUP), Message(MARKUP, long)]  # type: ignore[arg-type]
    recording.think(
        "0", 1, 0.1, 1.0, f"{long}\n```python\n{MARKUP}\n```", messages, reasoning=long, model=MARKUP, version=MARKUP
    )
    recording.run_cell("0", 1, 1.0, 2.0, MARKUP, long, error=long, restarted=MARKUP, status=MARKUP)
    recording.call("0", 1, 1, 1.1, 1.2, MARKUP, long, kwargs={MARKUP: MARKUP}, result={MARKUP: long})
    recording.call("0", 1, 2, 1.1, 1.2, MARKUP, error=long)
    recording.start("0.0", 1.3, MARKUP, model=MARKUP)
    recording.end("0.0", 1.5, Status.MALFORMED, reason=MARKUP)
    recording.add(Steered(time=START + 1.6, action=MARKUP, node="0", text=MARKUP))
    recording.end("0", 2.0, Status.STEP_LIMIT, reason=long, result=None)
    return recording.tree(status=Status.STEP_LIMIT)


def many(agents: int = 2000, seed: int = 1) -> ExecutionTree:
    """A tree of so many agents with a few steps each, of which some fail."""
    rng = random.Random(seed)
    recording = Recording("20261127T140000-many")
    children = {"0": 0}
    times = {"0": 0.0}
    ends = {"0": 0.0}
    recording.start("0", 0.0, f"Count the words of {agents:,} documents")
    while len(children) < agents:
        parent = rng.choice(list(children)[-80:]) if rng.random() < 0.85 else "0"
        if parent.count(".") > 5:
            continue
        node = f"{parent}.{children[parent]}"
        children[parent] += 1
        children[node] = 0
        at = times[node] = times[parent] + rng.uniform(0.5, 9.0)
        goal = f"Count the words of document {len(children)}"
        recording.start(node, at, goal)
        for step in range(1, rng.randint(2, 5)):
            code = f"text = documents[{len(children)}]\ncounts = len(text.split())\nprint(counts)"
            to = at + rng.uniform(0.3, 2.2)
            said = _opening(goal) if step == 1 else [Message("user", f"Output:\n{rng.randint(100, 9999)}\n" * 8)]
            recording.think(node, step, at + 0.02, to, _block("Count.", code), said)
            recording.run_cell(node, step, to, to + 0.1, code, f"{rng.randint(100, 9999)}\n" * 8)
            at = to + 0.12
        ends[node] = at
    for node in reversed(list(children)):
        parent = node.rpartition(".")[0]
        if parent:
            ends[parent] = max(ends[parent], ends[node] + 0.05)
        failed = parent and rng.random() < 0.05
        status = rng.choice([Status.STEP_LIMIT, Status.TOKEN_LIMIT, Status.MALFORMED]) if failed else Status.FINISHED
        outcome = {"reason": "The agent used up its limit."} if failed else {"result": rng.randint(100, 9999)}
        recording.end(node, ends[node], status, **outcome)
        recording.score(node, ends[node], round(rng.random(), 2))
    return recording.tree()
