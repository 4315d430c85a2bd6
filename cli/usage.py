"""What is wrong with a command line, as one sentence: the messages of typer in the words of `rao`, and idle options."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import typer

from recursive_agent.errors import ConfigurationError


def _choices(match: re.Match[str]) -> str:
    *others, last = re.findall(r"'([^']*)'", match["choices"])
    return f"{match['name']} must be {', '.join(others)} or {last}, not {match['value']}"


_SENTENCES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"Invalid value for '(?P<name>.+?)': (?:Value error, )?(?P<value>'.*') is not one of (?P<choices>.*)\.", _choices),
    (r"Invalid value for '(.+?)': Input should be a valid integer.*", r"\1 must be a whole number"),
    (r"Invalid value for '(.+?)': Input should be a valid number.*", r"\1 must be a number"),
    (r"Invalid value for '(.+?)': Input should be greater than or equal to (.+)", r"\1 must be at least \2"),
    (r"Invalid value for '(.+?)': Input should be less than or equal to (.+)", r"\1 must be at most \2"),
    (r"Invalid value for '(.+?)': (?:Value error, )?(.+?)\.?", r"\1: \2"),
    (r"Missing argument '(.+?)'\.?.*", r"\1 is missing"),
    (r"Missing option '(.+?)'\.?.*", r"the option \1 is missing"),
    (r"Missing command\.?", "a command is missing"),
    (r"No such option: (\S+) \(Possible options?: (.+)\)", r"there is no option \1; did you mean \2?"),
    (r"No such option: (\S+) Did you mean (.+)\?", r"there is no option \1; did you mean \2?"),
    (r"No such option: (\S+?)\.?", r"there is no option \1"),
    (r"No such command '(.+?)'\. Did you mean '(.+)'\?", r"there is no command \1; did you mean \2?"),
    (r"No such command '(.+?)'\.?", r"there is no command \1"),
    (
        r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)",
        r"nothing is expected here: \1 (put words that belong together in quotes)",
    ),
    (r"Option '(.+?)' requires 2 arguments\.?", r"\1 needs two values"),
    (r"Option '(.+?)' requires an argument\.?", r"\1 needs a value"),
    (r"Option '(.+?)' does not take a value\.?", r"\1 takes no value"),
)
"""Patterns of typer's messages, and the sentences to print for them. A message that fits none is printed as it is."""


def usage_error(error: typer.TyperException) -> str:
    """One sentence: what is wrong with the command line, and which help explains it."""
    message = " ".join(error.format_message().split())
    for pattern, sentence in _SENTENCES:
        if match := re.fullmatch(pattern, message):
            message = sentence(match) if callable(sentence) else match.expand(sentence)
            break
    context = getattr(error, "ctx", None)
    command = "rao" if context is None else context.command_path
    return f"{message.rstrip('.')} (see: {command} --help)"


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def flag_of(context: typer.Context, name: str) -> str:
    """What the user calls a parameter: `--max-steps`, `ENV`."""
    found = next(each for each in context.command.params if each.name == name)
    return found.opts[0] if found.opts[0].startswith("-") else str(found.metavar or name)


def check_only(context: typer.Context, option: str, names: Collection[str]) -> None:
    """Raises ConfigurationError if the user gave a parameter that does nothing beside `option`: one that is not in `names`."""
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in names and is_given(context, name):
            raise ConfigurationError(f"{flag_of(context, name)} has no effect with {option}; leave it out")
