"""Oolong: questions about long documents whose answer is spread over all of them."""

from .official import score_real, score_synth
from .real import OolongReal
from .synth import OolongSynth
from .synth_public import OolongSynthPublic

__all__ = ["OolongReal", "OolongSynth", "OolongSynthPublic", "score_real", "score_synth"]
