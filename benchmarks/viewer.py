"""What an interaction with the viewer's page costs in a real Chromium: `python -m benchmarks.viewer`.

A run of 2,000 agents, and a folder of 500 runs. For each interaction, from real key presses and clicks: milliseconds of CPU of
the page's main thread (script, style, layout and paint of it; they do not depend on what else the machine does), and from the
input to the next frame (Event Timing, in steps of 8 ms; `< 16` is not reported by the browser). The aim is 100 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

from recursive_agent.viewer.page import page_text
from tests.viewer.browser import samples
from tests.viewer.browser.conftest import ARGUMENTS, chromium

AIM = 100.0

OBSERVE = """() => {
    globalThis.slowest = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) globalThis.slowest = Math.max(globalThis.slowest, entry.duration);
    }).observe({type: 'event', durationThreshold: 16, buffered: false});
}"""
# Two frames and a task later everything that the input led to has been drawn.
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))"


class Meter:
    """Measures interactions with one page."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.evaluate(OBSERVE)

    def cpu(self) -> float:
        """Milliseconds that the main thread has worked."""
        metrics = {each["name"]: each["value"] for each in self.session.send("Performance.getMetrics")["metrics"]}
        return float(metrics["TaskDuration"]) * 1e3

    def measure(self, name: str, act: Callable[[int], object], times: int) -> None:
        """Do something so many times and print a line about it."""
        cpu, frames = [], []
        for i in range(times):
            self.page.evaluate(SETTLED)
            self.page.evaluate("() => { globalThis.slowest = 0; }")
            before = self.cpu()
            act(i)
            self.page.evaluate(SETTLED)
            cpu.append(self.cpu() - before)
            frames.append(float(self.page.evaluate("globalThis.slowest")))
        slowest = f"{max(frames):.0f}" if max(frames) else "< 16"
        typical = f"{median(frames):.0f}" if median(frames) else "< 16"
        missed = "  MISSES 100 ms" if max(cpu) > AIM else ""
        print(
            f"{name:44} CPU {median(cpu):6.1f} ms, at most {max(cpu):6.1f}   to the next frame {typical:>5} ms, "
            f"at most {slowest:>5}{missed}",
            flush=True,
        )


def of_run(meter: Meter, times: int) -> None:
    """Interactions with a run of 2,000 agents."""
    page = meter.page
    press = page.keyboard.press
    page.locator("[role=tree]").focus()
    meter.measure("next agent", lambda _: press("ArrowDown"), times)
    meter.measure("15 agents on", lambda _: press("PageDown"), times)
    meter.measure("last and first agent", lambda i: press("Home" if i % 2 else "End"), times)
    meter.measure("next that failed", lambda _: press("n"), times)
    meter.measure("open the next step", lambda _: press("s"), times)
    fold = page.get_by_role("button", name="Fold", exact=True)
    unfold = page.get_by_role("button", name="Unfold all")
    meter.measure("fold and unfold all", lambda i: (unfold if i % 2 else fold).click(), times)
    meter.measure("zoom in and out", lambda i: press("-" if i % 4 > 1 else "+"), times)
    press("0")
    box = page.locator("[role=tree]").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 100)
    meter.measure("scroll by 400 pixels", lambda _: page.mouse.wheel(0, 400), times)
    page.mouse.move(box["x"] + box["width"] - 60, box["y"] + 100)
    meter.measure(
        "move over a bar", lambda i: page.mouse.move(box["x"] + box["width"] - 60 - i, box["y"] + 90 + i), times
    )
    page.locator("#search").focus()
    meter.measure("type a letter to search for", lambda i: press("document 1"[i % 10]), 10)
    page.locator(".hit-list").focus()
    meter.measure("next place found", lambda _: press("ArrowDown"), times)
    page.locator("#search").fill("")


def of_folder(meter: Meter, times: int) -> None:
    """Interactions with a folder of 500 runs."""
    page = meter.page
    header = page.get_by_role("columnheader", name="Tokens").get_by_role("button")
    meter.measure("sort 500 runs", lambda _: header.click(), times)
    page.locator("#folder-search").focus()
    meter.measure("type a letter to filter by", lambda i: page.keyboard.press("year 19"[i % 7]), 7)
    page.get_by_role("button", name="Clear").click()
    page.locator(".table-box").focus()
    meter.measure("next run", lambda _: page.keyboard.press("ArrowDown"), times)
    row, back = page.locator(".table-row a").first, page.locator("a.button", has_text="All runs")
    meter.measure("open a run, and back", lambda i: (back if i % 2 else row).click(), times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=16, help="Repetitions of each interaction.")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        folder_data, runs = samples.folder(500)
        for name, data, more, interact in (
            ("2,000 agents", samples.many(), (), of_run),
            ("500 runs", folder_data, runs, of_folder),
        ):
            file = Path(folder, "page.html")
            file.write_text(page_text(data, runs=more), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1360, "height": 850})
            begun = time.perf_counter()
            page.goto(file.as_uri())
            page.wait_for_selector("main > *")
            meter = Meter(page)
            took = time.perf_counter() - begun
            print(f"{name}: {file.stat().st_size / 1e6:.1f} MB, shown after {took:.2f} s, CPU {meter.cpu():.0f} ms")
            interact(meter, times)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
