"""A scripted OpenAI-compatible endpoint over real HTTP, for this project's tests and yours."""

from .endpoint import ScriptedEndpoint
from .ledger import Entry, Ledger
from .script import Answer, Fault, FaultKind, Reply, Request, Script, by_goal, replies
from .tokenizer import ScriptedTokenizer, Tokenizer

__all__ = [
    "Answer",
    "Entry",
    "Fault",
    "FaultKind",
    "Ledger",
    "Reply",
    "Request",
    "Script",
    "ScriptedEndpoint",
    "ScriptedTokenizer",
    "Tokenizer",
    "by_goal",
    "replies",
]
