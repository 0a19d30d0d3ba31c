"""Reads what is in deploy/kubernetes/, and shortens the times of a pod for tests."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Final

import yaml

REPOSITORY: Final = Path(__file__).parents[2]
DIRECTORY: Final = REPOSITORY / "deploy" / "kubernetes"


def read(name: str) -> Any:
    """Read a file with one object."""
    return yaml.safe_load((DIRECTORY / name).read_text())


def pod_template() -> dict[str, Any]:
    """Give the template of pods."""
    template: dict[str, Any] = read("deployment.yaml")["spec"]["template"]
    return template


def config_maps() -> dict[str, dict[str, str]]:
    """Give what kustomization.yaml makes ConfigMaps of."""
    made: dict[str, dict[str, str]] = {}
    for source in read("kustomization.yaml")["configMapGenerator"]:
        of_files = {Path(it).name: (DIRECTORY / it).read_text() for it in source.get("files", ())}
        lines = [
            line
            for it in source.get("envs", ())
            for line in (DIRECTORY / it).read_text().splitlines()
            if line and not line.startswith("#")
        ]
        made[source["name"]] = of_files | dict(line.split("=", 1) for line in lines)
    return made


def documented(language: str) -> str:
    """Give the one text in this language that docs/kubernetes.md has: lines for Nginx, or a kustomization."""
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    (text,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(text)


def in_less_time(template: dict[str, Any], *, hook_seconds: int, drain_seconds: int) -> Any:
    """Give the template with other times for the hook of Nginx and for the bridge's drain delay, and all else as it is."""
    changed = copy.deepcopy(template)
    (sidecar,) = changed["spec"]["initContainers"]
    command = sidecar["lifecycle"]["preStop"]["exec"]["command"]
    command[-1] = _replaced(r"sleep \d+", f"sleep {hook_seconds}", command[-1])
    (bridge,) = changed["spec"]["containers"]
    option = "--drain-delay-seconds="
    bridge["args"] = [
        _replaced(r"\d+", str(drain_seconds), it) if it.startswith(option) else it
        for it in bridge["args"]
    ]
    return changed


def _replaced(pattern: str, by: str, text: str) -> str:
    changed, count = re.subn(pattern, by, text)
    assert count == 1, text
    return changed
