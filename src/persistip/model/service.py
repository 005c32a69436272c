"""Which addresses do Services take? The cluster's proxy catches packets for them on every node, before any route."""

from __future__ import annotations

import attrs

from persistip.model.address import IPAddress, Prefix
from persistip.model.keys import Kind, ObjectKey, ObjectMeta


@attrs.frozen(kw_only=True)
class Service:
    """A Service; ``ips`` are its external and load-balancer IPs, not those of the cluster's Service ranges."""

    meta: ObjectMeta
    ips: tuple[IPAddress, ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.SERVICE, self.meta.namespace, self.meta.name)


@attrs.frozen(kw_only=True)
class ServiceCIDR:
    """Ranges from which the cluster gives Services their cluster IPs."""

    meta: ObjectMeta
    cidrs: tuple[Prefix, ...] = ()

    @property
    def key(self) -> ObjectKey:
        """Its key."""
        return ObjectKey(Kind.SERVICE_CIDR, "", self.meta.name)
