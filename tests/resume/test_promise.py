"""docs/running.md promises five things; each is held by a test, and none is promised that is not."""

from __future__ import annotations

import re
from pathlib import Path

from . import test_every_instant, test_kills, test_resume

INSTANTS = test_every_instant.test_whatever_the_trace_holds_is_never_asked_again

PROMISES = {
    "No model call that was recorded is ever sent again, and no tool call that was recorded is run again; a call in flight at "
    "the kill may be.": test_kills.test_killed_at_sixty_instants,
    "An agent that had ended keeps its result": INSTANTS,
    "An agent that had not ended gets its variables back": INSTANTS,
    "If its code does something else than is recorded": test_resume.test_code_that_does_something_else_is_named_and_a_choice,
    "What was used before counts towards the limits": test_resume.test_what_was_used_before_counts,
}


def test_the_promises_are_those_of_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "running.md").read_text().partition("## Fork")[0]
    sentences = [" ".join(found.split()) for found in re.findall(r"^\d\. (.*?)(?=^\d\. |\n\n)", text, re.M | re.S)]
    assert len(sentences) == len(PROMISES)
    for sentence, promise in zip(sentences, PROMISES, strict=True):
        assert sentence.startswith(promise)
