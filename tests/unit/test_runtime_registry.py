"""Backends by name: ours without a search, others by entry point, and what to do where one is missing."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from persistip.backends import registry
from persistip.backends.announce import PacketAnnouncer, SilentAnnouncer
from persistip.backends.static import StaticAllocator
from persistip.cli.run import _controller
from persistip.errors import ConfigError
from persistip.settings import AgentSettings, ClusterSettings, ControllerSettings, ServingSettings

PLUGIN = """
from contextlib import nullcontext

class Acme:
    annotations = ("acme.example/warm",)

    def refusal(self, pod):
        return None

def allocator(settings):
    return nullcontext(("acme", settings))

def cold():
    return "no mode at all"

def cluster(settings, node_name, annotations):
    raise RuntimeError(f"asked for {sorted(annotations)} on node {node_name}")
"""
POINTS = """
[persistip.allocators]
acme = acme_plugin:allocator
lost = acme_plugin.missing:allocator

[persistip.clusters]
acme = acme_plugin:cluster

[persistip.reaction_modes]
warm = acme_plugin:Acme
cold = acme_plugin:cold
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a third party's distribution, as far as its metadata goes."""
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text(POINTS)
    (tmp_path / "acme_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))


async def test_built_in_backends_are_made_from_settings() -> None:
    """Each name of ours gives an asynchronous context manager of its backend."""
    async with registry.find_allocator("static")(ControllerSettings()) as allocator:
        assert isinstance(allocator, StaticAllocator)
    async with registry.find_announcer("layer2")(AgentSettings(), "a") as announcer:
        assert isinstance(announcer, PacketAnnouncer)
    async with registry.find_announcer("none")(AgentSettings(), "a") as silent:
        assert isinstance(silent, SilentAnnouncer)


def test_built_in_name_searches_no_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The common names cost no walk through the metadata of everything that is installed."""

    def search(**_: Any) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(metadata, "entry_points", search)
    assert registry.find_allocator("static")


@pytest.mark.usefixtures("plugin")
async def test_backend_of_a_third_party_is_found_by_its_entry_point() -> None:
    """What another distribution registers is loaded and handed the settings."""
    settings = ControllerSettings(workers=3)
    async with registry.find_allocator("acme")(settings) as made:
        assert made == ("acme", settings)  # type: ignore[comparison-overlap]
    assert registry.find_reaction_modes(["warm"])["warm"].refusal(None) is None  # type: ignore[arg-type]
    assert {"acme", "static"} <= set(registry.names("allocators"))


@pytest.mark.usefixtures("plugin")
async def test_controller_asks_its_cluster_for_the_annotations_that_its_modes_read() -> None:
    """What a plugged-in mode reads of a Pod is delivered without anybody's saying so; the rest may be left out."""
    where = ("acme", ClusterSettings())
    with pytest.raises(RuntimeError, match=r"asked for \['acme.example/warm'\] on node None"):
        await _controller(where, ServingSettings(), "static", ("warm",), ControllerSettings(), elects=False)


@pytest.mark.usefixtures("plugin")
def test_plugin_that_cannot_be_loaded_is_named() -> None:
    """The error says which installed thing is broken, and how."""
    with pytest.raises(ConfigError, match=r"'lost' is installed \(acme_plugin.missing:allocator\) but cannot"):
        registry.find_allocator("lost")


@pytest.mark.usefixtures("plugin")
def test_reaction_mode_without_a_verdict_is_named() -> None:
    """What is registered as a mode and is none is refused at start, not when the first Pod is judged."""
    with pytest.raises(ConfigError, match="'cold' has no method refusal"):
        registry.find_reaction_mode("cold")


def test_unknown_name_lists_what_there_is() -> None:
    """A slip in a name is answered with the names that exist and the way to add one."""
    with pytest.raises(
        ConfigError, match=r"no backend 'linus' among the datapaths; there are: .*linux.*persistip\.datapaths"
    ):
        registry.find_datapath("linus")


def test_missing_library_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a backend's own library is absent the message is the command that brings it."""
    monkeypatch.setitem(
        registry._BUILT_IN,  # type: ignore[arg-type]
        "datapaths",
        {"linux": registry._BuiltIn("no_such_library_here", registry._linux, "linux")},
    )
    with pytest.raises(ConfigError, match=r"'linux' needs no_such_library_here: pip install 'persistip\[linux\]'"):
        registry.find_datapath("linux")


def test_missing_module_of_ours_is_no_advice_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation of this package is not mistaken for a missing extra."""
    monkeypatch.setitem(
        registry._BUILT_IN,  # type: ignore[arg-type]
        "datapaths",
        {"linux": registry._BuiltIn("persistip.backends.nowhere", registry._linux, "linux")},
    )
    assert "persistip.backends.nowhere" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        registry.find_datapath("linux")
