"""
What has to come of random calls to Compute Engine? A model without operations, links, fingerprints or JSON.

In: one call after another, each carried out before the next.  Out: the word that it comes to, and where packets go. It
knows nothing of the emulator: it says the same in a hundred lines, for the calls of ``test_compute_random.py``.
"""

from dataclasses import dataclass, field

DONE, TAKEN, INVALID, GONE, USED, MISSING = (
    "DONE", "alreadyExists", "invalid", "notFound", "resourceInUseByAnotherResource", "required",
)  # fmt: skip
RACE_SECONDS, ACTIVE_SECONDS = 3.0, 1200.0


@dataclass
class Service:
    """A service: who leads, and who said last that it has the addresses."""

    fast: bool
    groups: list[str]
    leader: tuple[str, str] | None
    claims: dict[str, float] = field(default_factory=dict)


@dataclass
class Model:
    """A project."""

    zones: dict[str, str]
    """Of each node."""
    addresses: set[str] = field(default_factory=set)
    groups: dict[str, set[str]] = field(default_factory=dict)
    """The endpoints of each group, by its zone."""
    services: dict[str, Service] = field(default_factory=dict)
    rules: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Address and service of each rule."""

    # ------------------------------------------------------------ addresses and groups
    def insert_address(self, name: str) -> str:
        """Reserve an address."""
        if name in self.addresses:
            return TAKEN
        self.addresses.add(name)
        return DONE

    def delete_address(self, name: str) -> str:
        """Give an address back."""
        if name not in self.addresses:
            return GONE
        if any(address == name for address, _ in self.rules.values()):
            return USED
        self.addresses.remove(name)
        return DONE

    def insert_group(self, zone: str) -> str:
        """Make a group of a zone."""
        if zone in self.groups:
            return TAKEN
        self.groups[zone] = set()
        return DONE

    def delete_group(self, zone: str) -> str:
        """Delete a group."""
        if zone not in self.groups:
            return GONE
        if any(zone in service.groups for service in self.services.values()):
            return USED
        del self.groups[zone]
        return DONE

    def attach(self, zone: str, node: str) -> str:
        """Attach a node."""
        if zone not in self.groups:
            return GONE
        if self.zones[node] != zone or node in self.groups[zone]:
            return INVALID
        self.groups[zone].add(node)
        return DONE

    def detach(self, zone: str, node: str) -> str:
        """Detach a node, unless it leads."""
        if zone not in self.groups:
            return GONE
        if node not in self.groups[zone]:
            return INVALID
        if any(service.leader == (zone, node) for service in self.services.values()):
            return USED
        self.groups[zone].remove(node)
        return DONE

    # ------------------------------------------------------------ services and rules
    def insert_service(self, name: str, *, fast: bool, groups: list[str], leader: tuple[str, str] | None) -> str:
        """Make a service of one leader."""
        if name in self.services:
            return TAKEN
        if any(zone not in self.groups for zone in groups) or (leader and leader[0] not in self.groups):
            return INVALID
        made = Service(fast, list(groups), leader)
        if not self.leads(made):
            return INVALID
        self.services[name] = made
        return DONE

    def move(self, name: str, leader: tuple[str, str]) -> str:
        """Let another lead."""
        if name not in self.services:
            return GONE
        service = self.services[name]
        if leader[0] not in self.groups or not self.leads(Service(service.fast, service.groups, leader)):
            return INVALID
        service.leader = leader
        return DONE

    def leads(self, service: Service) -> bool:
        """Whether its leader, if it has one, can be it."""
        if service.leader is None:
            return True
        zone, node = service.leader
        return zone in service.groups and node in self.groups[zone]

    def delete_service(self, name: str) -> str:
        """Delete a service."""
        if name not in self.services:
            return GONE
        if any(service == name for _, service in self.rules.values()):
            return USED
        del self.services[name]
        return DONE

    def insert_rule(self, name: str, address: str, service: str) -> str:
        """Make a rule for all protocols."""
        if name in self.rules:
            return TAKEN
        if address not in self.addresses or service not in self.services:
            return INVALID
        if any(other == address for other, _ in self.rules.values()):
            return INVALID
        self.rules[name] = (address, service)
        return DONE

    def delete_rule(self, name: str) -> str:
        """Delete a rule."""
        return DONE if self.rules.pop(name, None) else GONE

    # ------------------------------------------------------------ packets
    def frame(self, node: str, address: str, now: float) -> bool:
        """Say that *node* has the address."""
        service = self.service_of(address)
        if service is None or not service.fast or node not in self.endpoints(service):
            return False
        service.claims[node] = now
        return True

    def holder(self, address: str, now: float) -> set[str]:
        """Return who would get a packet."""
        service = self.service_of(address)
        if service is None:
            return set()
        attached = self.endpoints(service)
        alive = {node: at for node, at in service.claims.items() if now - at < ACTIVE_SECONDS and node in attached}
        if alive:
            return {node for node, at in alive.items() if max(alive.values()) - at < RACE_SECONDS}
        return {service.leader[1]} if service.leader else set()

    def service_of(self, address: str) -> Service | None:
        """Return the service that an address leads to."""
        return next((self.services[name] for of, name in self.rules.values() if of == address), None)

    def endpoints(self, service: Service) -> set[str]:
        """Return every node that is attached to a group of the service."""
        return {node for zone in service.groups for node in self.groups[zone]}
