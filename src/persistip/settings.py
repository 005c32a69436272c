"""
What can be set?

Values only, in groups, each with the default that suits most: reading files, the environment and flags is the CLI's
job, and checking them against the outside world is that of whoever uses them.
"""

from __future__ import annotations

import attrs

from persistip.errors import ConfigError
from persistip.model.bounds import above, at_least
from persistip.model.views import Policy


@attrs.frozen(kw_only=True)
class ClusterSettings:
    """Where the API server is. Neither set: a Pod's service account inside a Pod, else what kubectl would use."""

    kubeconfig: str | None = None
    """The kubeconfig to use; several are separated as in the variable KUBECONFIG."""
    context: str | None = None
    """The context of the kubeconfig; its current one by default."""


@attrs.frozen(kw_only=True)
class ServingSettings:
    """Where a process answers those who watch it, at /metrics, /healthz and /readyz."""

    listen: str = ""
    """The address to answer at: host:port, [host]:port, or :port for every link; empty: nowhere."""
    tls_certificate: str = ""
    """File of the certificate with its chain to answer with, read anew when it changes; empty: plain HTTP."""
    tls_key: str = ""
    """File of the certificate's key."""


@attrs.frozen(kw_only=True)
class ElectionSettings:
    """
    How replicas agree on one of them, with client-go's times.

    They must be in this order: who leads has to know that its time is up before anybody else takes over.
    """

    lease_seconds: float = 15.0
    """For how long a lease that is not renewed keeps the others out."""
    renew_seconds: float = 10.0
    """For how long who leads goes on without a renewal that succeeds."""
    retry_seconds: float = 2.0
    """How often it is renewed."""

    def __attrs_post_init__(self) -> None:
        if not 0 < self.retry_seconds < self.renew_seconds < self.lease_seconds:
            given = f"{self.retry_seconds:g}, {self.renew_seconds:g}, {self.lease_seconds:g}"
            names = "settings election.retry_seconds, renew_seconds and lease_seconds"
            raise ConfigError(f"{names} are {given}; each must be more than the one before, and the first more than 0")


@attrs.frozen(kw_only=True)
class GceSettings:
    """Compute Engine, for the allocator ``gce``; what is empty is asked of the machine's metadata server."""

    project: str = ""
    """The project of the addresses and of the nodes' machines."""
    region: str = ""
    """The region of both."""
    cluster_id: str = ""
    """What tells this cluster's resources in the project from another's, such as the UID of the Namespace kube-system;
    must never change."""
    endpoint: str = ""
    """Where Compute Engine is; empty: Google's. With http:// no credentials are sent: an emulator."""
    internal_sources: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd20::/20")
    """Who may reach internal addresses, as CIDRs: the source ranges of the firewall rules that are made for them."""


@attrs.frozen(kw_only=True)
class ControllerSettings:
    """Settings of one controller process."""

    policy: Policy = Policy()
    """What changes decisions; must be the same on every replica."""
    workers: int = attrs.field(default=8, validator=at_least(1))
    """How many keys are worked on at a time; each waits for the API server most of its time."""
    write_burst: int = attrs.field(default=50, validator=at_least(1))
    """How many passes over one object may write something before it is slowed down; another writer that undoes ours
    must not become a storm."""
    writes_per_second: float = attrs.field(default=2.0, validator=above(0))
    """To how many such passes a second it is then slowed down."""
    cloud_resync_seconds: float = attrs.field(default=60.0, validator=above(0))
    """After how long the cloud's part of a route is looked at again though nothing was heard: others can change it."""
    gce: GceSettings = GceSettings()
    """Where the allocator gce works, and as whom."""
    grace_seconds: float = attrs.field(default=5.0, validator=at_least(0))
    """How long a stop waits for what is in work."""
    election: ElectionSettings = ElectionSettings()
    """How replicas agree on one of them."""


@attrs.frozen(kw_only=True)
class AnnounceSettings:
    """
    When an announcement is sent: at these times, then evenly until the end; all in seconds from its start.

    Repeated because frames get lost and some switches and hosts ignore the first; ended because the kernel answers for
    the address by itself.
    """

    offsets_seconds: tuple[float, ...] = (0.0, 0.05, 0.2, 1.0, 2.0, 5.0)
    """The first times an announcement is sent, in seconds from its start."""
    every_seconds: float = attrs.field(default=10.0, validator=above(0, "announce"))
    """How often it is repeated after those."""
    until_seconds: float = attrs.field(default=300.0, validator=at_least(0, "announce"))
    """When its last repeat may be, in seconds from its start."""


@attrs.frozen(kw_only=True)
class AgentSettings:
    """Settings of one agent process; its node's name is an argument of ``Agent``."""

    uplinks: tuple[str, ...] = ()
    """Links on which the node answers for addresses; empty: those of its default routes."""
    state_directory: str = "/var/lib/persistip"
    """Where pins are recorded; must outlive the process, and need not outlive the machine's boot."""
    sysctl_directory: str = "/proc/sys"
    """Where kernel settings are written; a container may not write its own, so the node's are mounted elsewhere."""
    resync_seconds: float = attrs.field(default=30.0, validator=above(0))
    """After how long the kernel is looked at though nothing was heard: some changes send no event."""
    kernel_quiet_seconds: float = attrs.field(default=0.02, validator=at_least(0))
    """Least time between two looks that only the kernel's own events asked for: a storm of them must not fill a CPU."""
    rounds: int = attrs.field(default=4, validator=at_least(1))
    """How often one pass may look, act and look again before what is left waits for the next."""
    announce: AnnounceSettings = AnnounceSettings()
    """The announcer's schedule."""
    grace_seconds: float = attrs.field(default=2.0, validator=at_least(0))
    """How long a stop waits for what is in work."""
