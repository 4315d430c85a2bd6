"""Charts (PNG, SVG) of evaluations and of training runs, in one style. Needs matplotlib, so commands import it only to draw."""

from .attempts import evaluation
from .comparing import comparison
from .learning import TRAINING, learning_curves
from .style import BOTH, Kind

__all__ = ["BOTH", "TRAINING", "Kind", "comparison", "evaluation", "learning_curves"]
