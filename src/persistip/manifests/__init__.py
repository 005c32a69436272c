"""
What has to be in a cluster for persistip to run in it?

In: Parameters.  Out: objects as plain dicts, in an order in which they can be applied.  Each file of this folder is
YAML as `kubectl` takes it, but for a few ``${names}``; what stands there is what is installed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from typing import Any, Literal

import attrs
import yaml

from persistip.errors import ConfigError
from persistip.model.gateway import DEFAULT_CONTROLLER

FILES = (
    "crd-gkeiproutes.yaml",
    "crd-addressattachments.yaml",
    "namespace.yaml",
    "gatewayclasses.yaml",
    "rbac.yaml",
    "policies.yaml",
    "flowcontrol.yaml",
    "controller.yaml",
    "agent.yaml",
)
_NAME = re.compile(r"\$\{(\w+)\}")
# What a value must look like; all of them end up inside YAML and CEL.
_FORMS = {
    "namespace": (re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"), "the name of a namespace"),
    "image": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*"), "a reference to an image"),
    "controller_name": (
        re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/_.~-]+"),
        "a domain and a path",
    ),
    "replicas": (re.compile(r"[1-9][0-9]*"), "a number of at least one"),
    "log_level": (re.compile(r"debug|info|warning|error"), "one of debug, info, warning and error"),
}


@attrs.frozen(kw_only=True)
class Parameters:
    """What differs from one installation to the next."""

    namespace: str = "persistip-system"
    """Where the controller and the agents live."""
    image: str = f"persistip:{version('persistip')}"
    """The image that has the programs `persistip-controller` and `persistip-agent`; by a tag that never changes."""
    controller_name: str = DEFAULT_CONTROLLER
    """The controllerName of the GatewayClasses that this installation serves."""
    replicas: int = 2
    """How many controllers; one of them leads."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe records that are written."""


def _values(parameters: Parameters) -> dict[str, str]:
    values = {name: str(value) for name, value in attrs.asdict(parameters).items()}
    for name, (form, what) in _FORMS.items():
        if not form.fullmatch(values[name]):
            message = f"--{name.replace('_', '-')} {values[name]!r} is not {what}"
            raise ConfigError(message)
    return values


def render(parameters: Parameters, files: Sequence[str] = FILES) -> str:
    """
    The manifests as one YAML stream, as `kubectl apply -f -` takes it, comments included.

    Raises ConfigError for a parameter that cannot be what it is meant to be.
    """
    values = _values(parameters)
    folder = resources.files(__name__)
    texts = ((folder / file).read_text(encoding="utf-8") for file in files)
    return "---\n".join(_NAME.sub(lambda found: values[found[1]], text) for text in texts)


def build(parameters: Parameters, files: Sequence[str] = FILES) -> list[dict[str, Any]]:
    """The manifests as objects."""
    return list(yaml.safe_load_all(render(parameters, files)))
