"""A long sequence of entries, read page by page: sums, counts, last values and peaks of any stretch of it."""

from .entries import KINDS, Entry, Question, gold, make_pages, parse_goal
from .environment import Sequence, SequenceSession

__all__ = ["KINDS", "Entry", "Question", "Sequence", "SequenceSession", "gold", "make_pages", "parse_goal"]
