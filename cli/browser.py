"""Opening a page in the user's browser, where there is one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def is_interactive(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody sits at a terminal, who sees what is printed and can press Ctrl-C."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return not environ.get("CI") and all(stream is not None and stream.isatty() for stream in streams)


def has_browser(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a browser with windows can be opened here: one in the terminal would take it from the run."""
    if environ.get("BROWSER"):
        return True
    if sys.platform == "darwin":
        return not environ.get("SSH_CONNECTION")
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def open_browser(url: str) -> bool:
    """Open a page if somebody is there to see it; whether a browser was started."""
    if not (is_interactive() and has_browser()):
        return False
    import webbrowser

    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    in_terminal = type(browser) is webbrowser.GenericBrowser and not os.environ.get("BROWSER")
    return False if in_terminal else browser.open(url)
