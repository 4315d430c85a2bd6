"""Email search: questions about a mailbox, public ones (`email`) and synthetic ones with exact answers (`email-synth`)."""

from .answers import Answer
from .mailbox import Mailbox
from .public import EmailSearch
from .synth import EmailSynth

__all__ = ["Answer", "EmailSearch", "EmailSynth", "Mailbox"]
