"""The examples run as they stand."""

import subprocess
import sys
from pathlib import Path

from recursive_agent.testing import ScriptedEndpoint, by_goal

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_a_question_of_a_long_document(tmp_path: Path) -> None:
    document = tmp_path / "book.txt"
    document.write_text("It was calm. " * 1000 + "Then came the storm. " + "Calm again. " * 1000)
    root = """```python
text = context['document']
half = len(text) // 2
found = await asyncio.gather(*[launch_subagent('find the weather', context=part) for part in (text[:half], text[half:])])
finish({'answer': 'There was a storm.', 'quotes': [quote for quotes in found for quote in quotes]})
```"""
    child = "```python\nimport re\nfinish(re.findall(r'Then came the storm', context))\n```"
    with ScriptedEndpoint(by_goal({"Was there a storm?": root, "find the weather": child})) as endpoint:
        shown = subprocess.run(
            [sys.executable, EXAMPLES / "long_document.py", document, "Was there a storm?"],
            env={"OPENAI_BASE_URL": endpoint.base_url, "RAO_MODEL": "scripted", "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert shown.stdout == "There was a storm.\n  “Then came the storm”\n"
    assert "3 agents" in shown.stderr
    assert len(list((tmp_path / "traces").iterdir())) == 1


def test_two_models_in_one_tree(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("We met on Monday. Decided: paint the door.\n\nLunch was late. Decided: buy a clock.")
    root = """```python
parts = [launch_subagent('find decisions', context=part, returns=list[str], model='fast') for part in context]
finish([one for found in await asyncio.gather(*parts) for one in found])
```"""
    child = "```python\nimport re\nfinish(re.findall(r'Decided: ([^.]*)', context))\n```"
    with (
        ScriptedEndpoint(by_goal({"Which decisions": root}), models=["large"]) as large,
        ScriptedEndpoint(by_goal({"find decisions": child}), models=["small"]) as small,
    ):
        shown = subprocess.run(
            [sys.executable, EXAMPLES / "two_models.py", notes],
            env={
                "OPENAI_BASE_URL": large.base_url,
                "RAO_MODEL": "large",
                "FAST_BASE_URL": small.base_url,
                "FAST_MODEL": "small",
                "PATH": "",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (len(large.requests), len(small.requests)) == (1, 2)
        assert f"fast: 2 calls, {small.ledger.total_tokens:,} tokens, cost" in shown.stderr
    assert shown.stdout == "paint the door\nbuy a clock\n"


def test_the_best_of_three(tmp_path: Path) -> None:
    root = """```python
made = await asyncio.gather(*[launch_subagent('one slogan', returns=str) for _ in range(3)])
scores = await asyncio.gather(*[score(one) for one in made])
finish(max(zip(scores, made))[1])
```"""
    slogans = iter(["Bread.", "Warm bread every morning.", "Come to us, for warm things."])
    with ScriptedEndpoint(
        by_goal({"slogan for a bakery": root, "one slogan": lambda _: f"```python\nfinish({next(slogans)!r})\n```"})
    ) as endpoint:
        shown = subprocess.run(
            [sys.executable, EXAMPLES / "best_of_n.py"],
            env={"OPENAI_BASE_URL": endpoint.base_url, "RAO_MODEL": "scripted", "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert shown.stdout == "Warm bread every morning. (0.97; the best of 3)\n"


def test_calls_wait_for_a_policy_or_for_the_answers_on_the_terminal(tmp_path: Path) -> None:
    def shown(*arguments: str, answers: str = "") -> list[str]:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "approval.py", *arguments],
            env={"PATH": ""},
            cwd=tmp_path,
            input=answers,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    assert shown("--policy") == [
        "ann@example.org: sent",
        "bob@elsewhere.net: the operator of this run did not approve this call: mails to other companies are not allowed",
        "0 launch_subagent: approved",
        "0 launch_subagent: approved",
        "0 send_mail: approved",
        "0 send_mail: mails to other companies are not allowed",
    ]
    asked = shown(answers="y\ny\nnot to Ann\ny\n")
    assert asked[-4:] == [
        "0 launch_subagent: approved",
        "0 launch_subagent: approved",
        "0 send_mail: not to Ann",
        "0 send_mail: approved",
    ]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    document = tmp_path / "book.txt"
    document.write_text("One. Two.")
    cells = ["parts = context.split()\nprint(parts)", "finish(len(parts))"]
    script = by_goal({"Sum it up": [f"```python\n{cell}\n```" for cell in cells]})
    with ScriptedEndpoint(script) as endpoint:

        def shown() -> str:
            done = subprocess.run(
                [sys.executable, EXAMPLES / "resume.py", "Sum it up", document],
                env={"OPENAI_BASE_URL": endpoint.base_url, "RAO_MODEL": "scripted", "PATH": ""},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            return done.stdout

        assert shown().startswith("2\n")
        (trace,) = (tmp_path / "traces").iterdir()
        lines = trace.read_bytes().splitlines(keepends=True)
        trace.write_bytes(b"".join(lines[: len(lines) // 2]))
        assert shown().startswith("2\n")
        assert len(endpoint.requests) == 3
        assert shown().startswith("2\n")  # it had finished: a new run
        assert len(endpoint.requests) == 5
