"""
Which backend has this name?

In: the name of an interface and of a backend.  Out: a factory, its module loaded only now.
A factory is called with the settings (and for a node's backends its name) and returns an asynchronous context manager
that gives the backend; a reaction mode, which is a rule and holds nothing open, is made by a call without arguments.
Those of others are found by entry points, in one group for each interface; the table below is ours, so that the common
names cost no search through what is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from persistip.errors import ConfigError
from persistip.runtime.clock import SystemClock
from persistip.settings import AgentSettings, ClusterSettings, ControllerSettings
from persistip.strategies import AddressAllocator, Announcer, Cluster, Datapath, Lease, ReactionMode


class LeasingCluster(Cluster, Protocol):
    """A cluster in which replicas can agree on one of them."""

    def lease(self, namespace: str, name: str) -> Lease:
        """The record by which they do."""
        ...


ClusterFactory = Callable[[ClusterSettings, str | None, Collection[str]], AbstractAsyncContextManager[LeasingCluster]]
AllocatorFactory = Callable[[ControllerSettings], AbstractAsyncContextManager[AddressAllocator]]
DatapathFactory = Callable[[AgentSettings, str], AbstractAsyncContextManager[Datapath]]
AnnouncerFactory = Callable[[AgentSettings, str], AbstractAsyncContextManager[Announcer]]

_GROUP = "persistip."


@attrs.frozen
class _BuiltIn:
    """Where a backend of ours is, how it is made, and which extra brings its library."""

    module: str
    make: Callable[..., AbstractAsyncContextManager[Any]]
    extra: str = ""


def _apiserver(
    module: Any, settings: ClusterSettings, node_name: str | None, annotations: Collection[str]
) -> AbstractAsyncContextManager[Any]:
    access = module.find_access(settings.kubeconfig or "", settings.context or "", os.environ)
    made: AbstractAsyncContextManager[Any] = module.ApiServerCluster(
        access, SystemClock(), node_name=node_name, annotations=annotations
    )
    return made


def _static(module: Any, _: ControllerSettings) -> AbstractAsyncContextManager[Any]:
    return nullcontext(module.StaticAllocator())


def _gce(module: Any, settings: ControllerSettings) -> AbstractAsyncContextManager[Any]:
    made: AbstractAsyncContextManager[Any] = module.open_allocator(settings)
    return made


def _linux(module: Any, settings: AgentSettings, _: str) -> AbstractAsyncContextManager[Any]:
    made: AbstractAsyncContextManager[Any] = module.LinuxDatapath(
        Path(settings.state_directory),
        uplinks=settings.uplinks,
        resync_seconds=settings.resync_seconds,
        sysctl_directory=Path(settings.sysctl_directory),
    )
    return made


def _layer2(module: Any, settings: AgentSettings, _: str) -> AbstractAsyncContextManager[Any]:
    made: AbstractAsyncContextManager[Any] = module.PacketAnnouncer(settings.announce)
    return made


def _silent(module: Any, _: AgentSettings, __: str) -> AbstractAsyncContextManager[Any]:
    return nullcontext(module.SilentAnnouncer())


_BUILT_IN: Mapping[str, Mapping[str, _BuiltIn]] = {
    "clusters": {"apiserver": _BuiltIn("persistip.backends.apiserver", _apiserver, "kubernetes")},
    "allocators": {
        "static": _BuiltIn("persistip.backends.static", _static),
        "gce": _BuiltIn("persistip.backends.gce.allocator", _gce, "gce"),
    },
    "datapaths": {"linux": _BuiltIn("persistip.backends.linux", _linux, "linux")},
    "announcers": {
        "layer2": _BuiltIn("persistip.backends.announce", _layer2),
        "none": _BuiltIn("persistip.backends.announce", _silent),
    },
    "reaction_modes": {},
}


def find_cluster(name: str) -> ClusterFactory:
    """
    The factory of a Cluster, called with a node's name for its agent; raises ConfigError.

    And with the annotations of Pods and Nodes that somebody reads beside the rules: those of plugged-in reaction modes.
    """
    return cast("ClusterFactory", _find("clusters", name))


def find_allocator(name: str) -> AllocatorFactory:
    """The factory of an AddressAllocator; raises ConfigError."""
    return cast("AllocatorFactory", _find("allocators", name))


def find_datapath(name: str) -> DatapathFactory:
    """The factory of a Datapath; raises ConfigError."""
    return cast("DatapathFactory", _find("datapaths", name))


def find_announcer(name: str) -> AnnouncerFactory:
    """The factory of an Announcer; raises ConfigError."""
    return cast("AnnouncerFactory", _find("announcers", name))


def find_reaction_mode(name: str) -> ReactionMode:
    """A reaction mode that is neither ReadyCondition nor Exists; raises ConfigError."""
    made = _find("reaction_modes", name)()
    if not isinstance(made, ReactionMode):
        raise ConfigError(f"what is installed as reaction mode {name!r} has no method refusal: {made!r}")
    return made


def find_reaction_modes(names: Iterable[str]) -> dict[str, ReactionMode]:
    """Those reaction modes by the names that routes give them; raises ConfigError."""
    return {name: find_reaction_mode(name) for name in names}


def names(interface: str) -> tuple[str, ...]:
    """The backends that can be chosen for *interface* ("allocators", …), ours and those installed."""
    return tuple(sorted({*_BUILT_IN[interface], *(point.name for point in _entry_points(interface))}))


def _find(interface: str, name: str) -> Callable[..., Any]:
    built_in = _BUILT_IN[interface].get(name)
    if built_in is not None:
        module = _import(built_in.module, name, built_in.extra)
        return lambda *arguments: built_in.make(module, *arguments)
    for point in _entry_points(interface):
        if point.name == name:
            try:
                return cast("Callable[..., Any]", point.load())
            except ImportError as error:
                message = f"{interface} {name!r} is installed ({point.value}) but cannot be loaded: {error}"
                raise ConfigError(message) from error
    known = ", ".join(names(interface)) or "none"
    raise ConfigError(
        f"no backend {name!r} among the {interface}; there are: {known}. "
        f"A package offers one by an entry point of group {_GROUP}{interface}"
    )


def _import(module: str, name: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module of ours that is missing is our fault, and not to be mended by installing something.
        if not extra or (error.name or "").startswith("persistip"):
            raise
        message = f"{name!r} needs {error.name}: pip install 'persistip[{extra}]'"
        raise ConfigError(message) from error


def _entry_points(interface: str) -> tuple[Any, ...]:
    # Loaded here alone: it takes as long as all the rest of a start.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return tuple(entry_points(group=_GROUP + interface))
