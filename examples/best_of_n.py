"""Best of N at a node, with a scorer: `python examples/best_of_n.py`. The model is that of RAO_MODEL and OPENAI_BASE_URL.

Nothing of rao's is needed for it but a tool that scores: an agent launches the same goal several times, and goes on with the
best result. All attempts are sub-agents of the tree, within its budget and in its trace. (Leave `share_identical` off.)
"""

from recursive_agent import Agent, Limits

BEST_OF = """\
Have every slogan written by three sub-agents at the same time, all with the same goal. Score each of the three with
`await score(slogan)` (0 to 1, higher is better), and use the best one. A sub-agent that fails has no score."""
WORDS = ("bread", "warm", "morning")


def score(slogan: str) -> float:
    """How good a slogan is: the share of the words that it must have, less a little for its length."""
    there = sum(word in slogan.lower() for word in WORDS) / len(WORDS)
    return max(0.0, there - len(slogan) / 1000)


def main() -> None:
    agent = Agent(tools=[score], instructions=BEST_OF, limits=Limits(max_depth=1), sampling={"temperature": 1.0})
    result = agent.solve_sync("Write a slogan for a bakery that opens at five.", returns=str)
    print(f"{result.output} ({score(result.output):.2f}; the best of {result.tree.launches})")


if __name__ == "__main__":
    main()
