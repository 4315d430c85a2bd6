"""DeepDive: multi-hop questions answered by searching and reading pages; the public set, and made-up worlds with exact gold."""

from .corpus import Corpus
from .goals import Chain, Of, Whose, answers, format_goal, parse_goal
from .graph import Graph, Relation, make_graph
from .library import open_library
from .public import DeepDive
from .search import Found, NoSuchPage, Page, SearchBackend, SearchUnavailable
from .session import DeepDiveSession
from .synth import DeepDiveSynth
from .synth_session import SynthSession
from .web import WebSearch

__all__ = [
    "Chain",
    "Corpus",
    "DeepDive",
    "DeepDiveSession",
    "DeepDiveSynth",
    "Found",
    "Graph",
    "NoSuchPage",
    "Of",
    "Page",
    "Relation",
    "SearchBackend",
    "SearchUnavailable",
    "SynthSession",
    "WebSearch",
    "Whose",
    "answers",
    "format_goal",
    "make_graph",
    "open_library",
    "parse_goal",
]
