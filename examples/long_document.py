"""Ask a question of a document that is longer than one context window: `python examples/long_document.py FILE QUESTION`.

Set OPENAI_BASE_URL, OPENAI_API_KEY and RAO_MODEL for the model. The document never enters a prompt: it is the variable
`context` in the agent's REPL, which reads it in pieces and hands pieces to sub-agents.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from pydantic import BaseModel

from recursive_agent import Agent, Limits, NodeEnded, NodeStarted


class Answer(BaseModel):
    answer: str
    quotes: list[str]


async def main(document: str, question: str) -> None:
    agent = Agent(limits=Limits(max_agents=30, max_tokens=300_000), trace_dir="traces")
    stream = agent.stream(question, context={"document": document}, returns=Answer)
    async for event in stream:
        if isinstance(event, NodeStarted):
            print(f"{'  ' * event.depth}agent {event.node}: {event.goal[:80]}", file=sys.stderr)
        elif isinstance(event, NodeEnded):
            print(f"agent {event.node} {event.status}", file=sys.stderr)
    result = stream.result
    if not result.status.finished:
        sys.exit(f"no answer: {result.status} ({result.reason}); see {result.trace_path}")
    print(result.output.answer)
    for quote in result.output.quotes:
        print(f"  “{quote}”")
    print(f"{result.usage.total_tokens:,} tokens, {len(result.tree.nodes)} agents", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    anyio.run(main, Path(sys.argv[1]).read_text(), sys.argv[2])
