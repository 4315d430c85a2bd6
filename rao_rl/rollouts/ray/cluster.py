"""The connection to a Ray cluster: one that runs, or one of this machine that lives as long as the command."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray

from recursive_agent.errors import ConfigurationError

LOCAL = "local"
"""The address of a cluster of this machine alone, started here."""
_REACH_SECONDS = 5.0
_CLIENT = "ray://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that this process is connected to."""

    nodes: int
    cpus: float
    hosts: frozenset[str]
    """Addresses of its nodes."""
    dashboard: str | None
    """URL of its dashboard; None if it has none."""


@contextmanager
def connected(
    address: str, *, dashboard: bool = True, object_store_memory: int | None = None, say: Callable[[str], None] = print
) -> Iterator[Cluster]:
    """Connect this process to the Ray cluster at `address` while the block lasts.

    `address` is `auto`, `host:port`, `ray://host:port`, or `local` (or empty) for a cluster of this machine, which is
    started here and ends with the block; `dashboard` and `object_store_memory` (bytes) are for that one. It sends no usage
    statistics unless RAY_USAGE_STATS_ENABLED=1. Nothing that the actors print reaches this process.

    Raises ConfigurationError if no cluster answers there.
    """
    local = address in ("", LOCAL)
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    options: dict[str, Any] = {"address": LOCAL if local else address, "log_to_driver": False}
    if local:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"include_dashboard": dashboard, "object_store_memory": object_store_memory}
    else:
        _reach(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its new behaviour, without a warning of the old
    with _own_signals():
        try:
            context = ray.init(**options, logging_level=logging.ERROR)
        except (Exception, SystemExit) as error:  # it ends the process where a cluster's parts do not answer
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            where = "started on this machine" if local else f"reached at {address}"
            raise ConfigurationError(f"Ray cannot be {where}: {reason}") from error
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        url = context.dashboard_url
        cluster = Cluster(
            nodes=len(nodes),
            cpus=float(ray.cluster_resources().get("CPU", 0.0)),
            hosts=frozenset(str(node["NodeManagerAddress"]) for node in nodes),
            dashboard=f"http://{url}" if url else None,
        )
        say(
            f"Ray: {cluster.nodes:,} {'node' if cluster.nodes == 1 else 'nodes'}, {cluster.cpus:g} CPUs"
            + ("" if cluster.dashboard is None else f"; dashboard at {cluster.dashboard}")
        )
        yield cluster
    finally:
        with _own_signals():
            ray.shutdown()


def _reach(address: str) -> None:
    """Raises ConfigurationError unless something listens at the address: Ray itself would try for minutes."""
    if address == "auto":
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if host is None or port is None or (place.scheme and not address.startswith(_CLIENT)):
        raise ConfigurationError(
            f"--ray takes auto, host:port, ray://host:port, or local for a cluster of this machine, not {address!r}"
        )
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        raise ConfigurationError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start it (ray start --head), mend the address, "
            "or use --ray local"
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, in whose place Ray puts its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
