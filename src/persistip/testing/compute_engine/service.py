"""
Which kinds of resource are there?

All of them in one tuple: whoever adds one adds a file and a line here.
"""

from __future__ import annotations

from persistip.testing.compute_engine import (
    addresses,
    backend_services,
    endpoint_groups,
    firewalls,
    forwarding_rules,
    health,
    seeded,
    target_instances,
)

KINDS = (
    addresses.KIND,
    forwarding_rules.KIND,
    backend_services.KIND,
    endpoint_groups.KIND,
    health.KIND,
    firewalls.KIND,
    target_instances.KIND,
    *seeded.KINDS,
)
