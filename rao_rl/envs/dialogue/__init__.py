"""A plan that is settled in a dialogue: a counterpart tells its wishes little by little, and changes its mind."""

from .agenda import Agenda, make_agenda
from .environment import Dialogue, DialogueSession

__all__ = ["Agenda", "Dialogue", "DialogueSession", "make_agenda"]
