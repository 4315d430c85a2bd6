"""`python -m rao_cli`: the same as `rao`."""

from .main import main

main()
