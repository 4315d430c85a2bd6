"""Which agents of an environment have no score without a judge, in a sentence before the first attempt."""

from __future__ import annotations

from recursive_agent.errors import ConfigurationError

from ..credit.config import CreditConfig
from ..envs.base import About, Environment, Mode, NeedsJudge
from .config import JudgeConfig


def needs_judge(environment: Environment) -> NeedsJudge:
    """Which scores an environment leaves to a judge; none, if its `about` does not say."""
    about = getattr(environment, "about", None)
    return about.needs_judge if isinstance(about, About) else NeedsJudge()


def unscored_agents(needs: NeedsJudge, *, recursive: bool = True) -> str | None:
    """The agents that have no score without a judge, such as `sub-agents and some roots`; None if there are none."""
    meant = [("sub-agents", needs.sub_agents)] if recursive else []
    meant.append(("roots", needs.roots))
    return (
        " and ".join(agents if number == "all" else f"some {agents}" for agents, number in meant if number != "no")
        or None
    )


def judge_notice(environment: Environment, *, judged: bool, recursive: bool) -> str | None:
    """What is said before attempts at an environment that needs a judge, where there is none."""
    agents = None if judged else unscored_agents(needs_judge(environment), recursive=recursive)
    if agents is None:
        return None
    return f"{environment.name} has no verifier for {agents}: without --judge MODEL these get no score"


def check_scored(environment: Environment, judge: JudgeConfig, credit: CreditConfig, mode: Mode) -> str | None:
    """What training on an environment will leave out, where it needs a judge and has none.

    Raises ConfigurationError where that is every root, so that nothing could be learnt.
    """
    if judge.model is not None:
        return None
    if needs_judge(environment).roots == "all":
        raise ConfigurationError(
            f"{environment.name} has no verifier for roots, so no attempt would get a score to learn from: name a model that "
            "judges them, with --judge MODEL"
        )
    # With the root's reward an agent needs no score of its own.
    own = mode == "recursive" and credit.reward != "root" and credit.baseline != "inherit"
    line = judge_notice(environment, judged=False, recursive=own)
    return None if line is None else f"{line}, and training leaves them out"
