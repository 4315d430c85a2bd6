"""Nested expressions over polynomials, shown node by node, with operations that Python does not have."""

from .environment import Algebra, AlgebraSession
from .expressions import Expression, Node, Polynomial, Rule, expand, make_expression

__all__ = ["Algebra", "AlgebraSession", "Expression", "Node", "Polynomial", "Rule", "expand", "make_expression"]
