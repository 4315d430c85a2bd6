"""What vLLM needs beside its defaults where it runs on a CPU, each with the reason; the user's own options win."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recursive_agent.checkpoint import window_of
from recursive_agent.errors import ConfigurationError

_SMALL = 4 << 30
"""Bytes of weights below which compilation takes longer than it saves: minutes at every new checkpoint, on busy cores."""
_CACHE = ("kv-cache-memory-bytes", "gpu-memory-utilization")
_CHUNKED = ("enable-chunked-prefill", "no-enable-chunked-prefill")
_BATCHED = "max-num-batched-tokens"
_COMPILED = ("enforce-eager", "no-enforce-eager", "compilation-config", "optimization-level")
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


@dataclass(frozen=True, slots=True)
class Choice:
    """Options that are added, and a sentence that says why; no options where the sentence only warns."""

    options: tuple[str, ...]
    reason: str


def cpu_choices(directory: Path | None, context_length: int | None, more: Sequence[str]) -> list[Choice]:
    """What a vLLM on a CPU is given for the model in `directory` (None: it is on a hub), beside the user's options `more`.

    `context_length` is the window of its agent.json, where there is one.
    """
    given = _given(more)
    choices = [_whole_prompts(directory, context_length, given)]
    if not given.keys() & {*_CACHE}:
        size = _cache_gib()
        reason = f"a quarter of the free memory is for the KV cache ({size} GiB); vLLM would take nearly all of it"
        choices.append(Choice(("--kv-cache-memory-bytes", f"{size}G"), reason))
    weights = _weights(directory)
    if 0 < weights <= _SMALL and not given.keys() & {*_COMPILED}:
        size_mb = max(1, round(weights / 1e6))
        reason = f"with weights of {size_mb:,} MB, compiling at the start would take longer than it saves"
        choices.append(Choice(("--enforce-eager",), reason))
    return [choice for choice in choices if choice.reason]


def _whole_prompts(directory: Path | None, context_length: int | None, given: dict[str, str]) -> Choice:
    """Prompts in one piece: vLLM rewinds the generator of a seeded request after each chunk, which those of CPUs cannot."""
    if given.keys() & {*_CHUNKED}:
        return Choice((), "")
    if _BATCHED in given:
        batched, window = _number(given[_BATCHED]), _window(directory, context_length, given)
        if batched is None or window is None or batched < window:
            return Choice(
                (),
                f"with --max-num-batched-tokens {given[_BATCHED]} longer prompts are read in chunks, and on CPUs vLLM stops "
                f"at the first of them that comes with a seed; leave it out, or make it at least the context window",
            )
    # vLLM then raises --max-num-batched-tokens to the context window by itself.
    return Choice(
        ("--no-enable-chunked-prefill",),
        "prompts are read whole, since on CPUs vLLM stops at a request with a seed whose prompt is read in chunks",
    )


def _given(more: Iterable[str]) -> dict[str, str]:
    """The user's options by name, as vLLM reads them: `-` and `_` are the same, the last one counts."""
    given: dict[str, str] = {}
    name = ""
    for word in more:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            name = name.partition(".")[0].replace("_", "-")
            given[name] = value
        elif word.startswith(("-O", "-cc")):
            given["compilation-config"] = word
        elif name and not given[name]:
            given[name] = word
    return given


def _window(directory: Path | None, context_length: int | None, given: dict[str, str]) -> int | None:
    """Tokens of the longest conversation, None where that is not known here."""
    if "max-model-len" in given:
        return _number(given["max-model-len"])
    if context_length is not None or directory is None:
        return context_length
    try:
        return window_of(directory)
    except ConfigurationError:  # a broken file: vLLM says so itself
        return None


def _number(text: str) -> int | None:
    """A number of tokens as vLLM reads it: 4096, 4k (thousands), 4K (of 1,024)."""
    factors = {"k": 10**3, "m": 10**6, "K": 2**10, "M": 2**20}
    digits, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    try:
        return int(float(digits) * factor)
    except (ValueError, OverflowError):
        return None


def _weights(directory: Path | None) -> int:
    """Bytes of the weights; 0 where they are not here."""
    if directory is None:
        return 0
    return next((size for pattern in _WEIGHTS if (size := sum(p.stat().st_size for p in directory.glob(pattern)))), 0)


def _cache_gib() -> int:
    """GiB for the KV cache in main memory: a quarter of what is available, from 1 to 8."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return max(1, min(8, kib // (4 << 20)))
