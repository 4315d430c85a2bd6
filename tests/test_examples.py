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
