"""The cluster files of docs/ray.md are what the tools that read them expect, as far as that can be known here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

yaml = pytest.importorskip("yaml")
ray = pytest.importorskip("ray")

FOLDER = Path(__file__).parents[3] / "docs" / "ray"


def test_the_launchers_file_fits_rays_schema() -> None:
    config = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    kinds = config["available_node_types"]
    assert sum(kind.get("max_workers", 0) for kind in kinds.values()) == config["max_workers"]
    assert [name for name, kind in kinds.items() if "sandbox" in kind["resources"]] == ["sandboxes"]


def test_the_file_for_kubernetes_gives_sandboxes_to_the_workers_only() -> None:
    cluster, deployment, service = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    (group,) = cluster["spec"]["workerGroupSpecs"]
    given: dict[str, Any] = json.loads(json.loads(group["rayStartParams"]["resources"]))
    (container,) = group["template"]["spec"]["containers"]
    assert given == {"sandbox": int(container["resources"]["limits"]["cpu"])}
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]


def test_the_script_for_slurm_can_be_read_by_bash() -> None:
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sh")], check=True)
