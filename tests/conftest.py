"""
What holds for every test: a sentence that says what it proves, and prerequisites that cannot fade unseen.

A test marked ``requires("kernel")`` skips with the reason where the kernel cannot be had. Where the environment
variable PERSISTIP_REQUIRE names that prerequisite (``PERSISTIP_REQUIRE=kernel,userns``), the skip is a failure.
"""

import asyncio
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from controlplane import ControlPlane

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("quick", deadline=None, max_examples=60)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=3000)
hypothesis.settings.load_profile(os.environ.get("PERSISTIP_HYPOTHESIS", "quick"))


# Makes a network namespace and brings its loopback up, as the suites do: the system call alone may succeed where
# every change afterwards is refused.
PROBE = """
import ctypes, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
uid = int(sys.argv[2])
if uid:
    os.setgid(uid); os.setuid(uid)
if libc.unshare(int(sys.argv[1])):
    sys.exit(os.strerror(ctypes.get_errno()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh", b"lo", 1))
"""
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def missing_kernel() -> str | None:
    """Return why this process may not make network namespaces and change them; None: it may."""
    try:
        import pyroute2  # noqa: F401, PLC0415
    except ImportError as error:
        return f"pyroute2 cannot be imported ({error})"
    reason = refused(CLONE_NEWNET, as_user=0)
    return reason and f"{reason}; run as root, or with `nox -s kernel`, which makes a user namespace"


def missing_userns() -> str | None:
    """Return why an ordinary user may not make a user namespace with a network in it; None: it may."""
    return refused(CLONE_NEWUSER | CLONE_NEWNET, as_user=NOBODY if os.geteuid() == 0 else 0)


def refused(flags: int, *, as_user: int) -> str | None:
    """Return what the kernel answers to ``unshare(flags)`` in a process of its own; None: it complies."""
    command = [sys.executable, "-c", PROBE, str(flags), str(as_user)]
    probe = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return None if probe.returncode == 0 else f"no network namespace: {probe.stderr.strip().splitlines()[-1]}"


def missing_apiserver() -> str | None:
    """Return why no Kubernetes API server can be started here; None: it can."""
    try:
        import cryptography  # noqa: F401, PLC0415
        import kubernetes_binaries  # noqa: PLC0415
    except ImportError as error:
        return f"a package is missing ({error})"
    return kubernetes_binaries.why_missing()


def missing_cluster() -> str | None:
    """Return why no cluster of real nodes can be started here; None: it can."""
    try:
        import cryptography  # noqa: F401, PLC0415
        from realcluster import requirements  # noqa: PLC0415
    except ImportError as error:
        return f"a package is missing ({error})"
    return requirements.why_missing()


def missing_nft() -> str | None:
    """Return why what we make of nftables cannot be compared with what nft makes; None: it can."""
    return None if shutil.which("nft") else "no program nft to judge by; it comes with the package nftables"


def missing_promtool() -> str | None:
    """Return why Prometheus' own judge of rules and metrics cannot be asked; None: it can."""
    return None if shutil.which("promtool") else "no program promtool to judge by; it comes with the package prometheus"


def missing_gce() -> str | None:
    """Return why Google's clients cannot be asked; None: they can."""
    found = [importlib.util.find_spec(name) for name in ("google", "googleapiclient", "jsonschema")]
    there = all(found) and importlib.util.find_spec("google.cloud.compute_v1") is not None
    return (
        None if there else "google-cloud-compute, google-api-python-client or jsonschema is missing; see `nox -s gce`"
    )


def missing_gcloud() -> str | None:
    """Return why Google's command line cannot be asked; None: it can."""
    return None if shutil.which("gcloud") else "no program gcloud"


PREREQUISITES: Mapping[str, Callable[[], str | None]] = {
    "kernel": functools.cache(missing_kernel),
    "apiserver": functools.cache(missing_apiserver),
    "cluster": functools.cache(missing_cluster),
    "userns": functools.cache(missing_userns),
    "nft": functools.cache(missing_nft),
    "promtool": functools.cache(missing_promtool),
    "gce": functools.cache(missing_gce),
    "gcloud": functools.cache(missing_gcloud),
}
IMPLIED: Mapping[str, frozenset[str]] = {"kernel": frozenset({"nft"})}
"""What is demanded along with a prerequisite: where the kernel side is proved, no judge of it may be missing."""


def demanded() -> frozenset[str]:
    """Return the prerequisites that must be there, by PERSISTIP_REQUIRE."""
    named = {name.strip() for name in os.environ.get("PERSISTIP_REQUIRE", "").split(",") if name.strip()}
    return frozenset(named.union(*(IMPLIED.get(name, frozenset()) for name in named)))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a prerequisite that nobody knows: a slip in its name would switch the demand off."""
    # looptime's plugin makes a loop in tests that have none, which the next runner drops unclosed.
    asyncio.set_event_loop(None)
    if unknown := demanded() - PREREQUISITES.keys():
        known = ", ".join(sorted(PREREQUISITES))
        raise pytest.UsageError(f"PERSISTIP_REQUIRE names {', '.join(sorted(unknown))}; known are {known}")


def prerequisites(item: pytest.Item) -> list[str]:
    """Return what *item* requires, outermost mark first."""
    return [name for mark in reversed(list(item.iter_markers("requires"))) for name in mark.args]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``-m kernel`` select what is marked ``requires("kernel")``."""
    for item in items:
        for name in prerequisites(item):
            if name not in PREREQUISITES:
                raise pytest.UsageError(f"{item.nodeid} requires {name!r}; known are {', '.join(PREREQUISITES)}")
            item.add_marker(name)


def fault_of_docstring(text: str | None) -> str | None:
    """Return what keeps *text* from being one sentence; None: nothing."""
    sentence = " ".join((text or "").split())
    if not sentence:
        return "has no docstring"
    if sentence[-1] not in ".?!":
        return "has a docstring that is no sentence: it ends without a full stop"
    if re.search(r"[a-z0-9)`][.?!] [A-Z]", sentence):
        return "has a docstring of more than one sentence"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that does not say what it proves; skip or fail one whose prerequisite is missing."""
    if isinstance(item, pytest.Function):
        # A state machine of hypothesis comes as a class whose one test method is not ours to document.
        from_unittest = item.cls is not None and issubclass(item.cls, unittest.TestCase)
        text = item.cls.__doc__ if from_unittest and item.cls.__doc__ else item.function.__doc__
        if fault := fault_of_docstring(text):
            pytest.fail(f"{item.name} {fault}; say in one sentence what it proves", pytrace=False)
    for name in prerequisites(item):
        if reason := PREREQUISITES[name]():
            if name in demanded():
                pytest.fail(f"PERSISTIP_REQUIRE demands {name}: {reason}", pytrace=False)
            pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def control_plane() -> "Iterator[ControlPlane]":
    """Return the session's real API server with all that is installed; what uses it is marked requires("apiserver")."""
    from controlplane import ControlPlane  # noqa: PLC0415

    with ControlPlane() as plane:
        plane.install_persistip()
        yield plane
