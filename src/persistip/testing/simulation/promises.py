"""
Does every write keep the promises?

In: each write to the API at the moment at which it stands.  Out: accusations. Facts that a controller may not know yet
are asked of ``Facts``, which remembers what was so a short while ago.
"""

from __future__ import annotations

from persistip.model.address import overlap, show
from persistip.model.attachment import AddressAttachment, AttachmentSpec, How, Release
from persistip.model.gateway import IN_USE_FINALIZER
from persistip.model.keys import CLASS_LABEL, Kind, ObjectKey
from persistip.model.pod import Pod
from persistip.model.route import GKEIPRoute
from persistip.testing.simulation.facts import Facts
from persistip.testing.simulation.network import Ledger, Written
from persistip.testing.simulation.rules import class_of, is_gone
from persistip.testing.simulation.site import FOREIGN_CLASS, USER, Site
from persistip.testing.simulation.trace import Trace, now


class WriteJudge:
    """Judges every write."""

    def __init__(self, ledger: Ledger, site: Site, facts: Facts, trace: Trace) -> None:
        self._ledger = ledger
        self._site = site
        self._facts = facts
        self._trace = trace
        self._pods: dict[str, Pod] = {}
        self._written_at: dict[str, float] = {}
        """When the attachment (UID) was written before."""
        self._unreadable_since: dict[ObjectKey, float] = {}
        """Since when which Gateway cannot be read."""

    def judge(self, written: Written) -> None:
        """One write."""
        if isinstance(written.new, Pod):
            self._pods[written.new.meta.uid] = written.new
        self.foreign_is_untouched(written)
        if written.key.kind is Kind.GATEWAY:
            self._unreadable_since.pop(written.key, None)
            if written.key in self._ledger.unreadable:
                self._unreadable_since[written.key] = now()
        if written.key.kind is Kind.GATEWAY_CLASS:
            self.class_that_may_be_in_use_is_kept(written)
        if written.key.kind is not Kind.ATTACHMENT:
            return
        old = written.old if isinstance(written.old, AddressAttachment) else None
        new = written.new if isinstance(written.new, AddressAttachment) else None
        if old is not None and new is not None and old.meta.uid == new.meta.uid:
            self.epoch_never_falls(old, new)
            self.epoch_rises_with_duties(old, new)
            self.release_ends_by_confirmation(old, new)
            self.held_address_stays(old, new)
            self.frozen_choice_stays(old, new)
            self.release_is_confirmed_truly(old, new)
            self.attachment_is_of_one_class(old, new)
            if new.meta.is_terminating and not old.meta.is_terminating and written.actor != USER:
                self.attachment_ends_empty(old)
        elif old is not None:
            self.attachment_ends_empty(old)
        if new is not None:
            self.route_has_one_attachment(new)
            self.grant_waits_for_release(old, new)
            self.grant_is_permitted(old, new)
            self.holder_is_of_the_route(new)
            self._written_at[new.meta.uid] = now()

    def attachments(self) -> list[AddressAttachment]:
        """All of them."""
        return [each for each in self._ledger.objects.values() if isinstance(each, AddressAttachment)]

    # ------------------------------------------------------------ P1
    def epoch_never_falls(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """A newer decision has no older epoch."""
        if new.spec.epoch < old.spec.epoch:
            said = f"{name_of(new)} fell from epoch {old.spec.epoch} to {new.spec.epoch}"
            self._trace.accuse("P1", self.epoch_never_falls, said)

    def epoch_rises_with_duties(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """``epoch`` rises with every change of what agents must do, so that what they say of one is of no other."""
        known = {_identity(entry) for entry in old.spec.releasing}
        added = [entry for entry in new.spec.releasing if _identity(entry) not in known]
        is_changed = _duties(old.spec) != _duties(new.spec) or added
        if is_changed and new.spec.epoch == old.spec.epoch:
            said = f"{name_of(new)} goes from {brief(old.spec)} to {brief(new.spec)}"
            self._trace.accuse("P1", self.epoch_rises_with_duties, said)
        if any(entry.epoch != new.spec.epoch for entry in added):
            said = f"{name_of(new)} releases something new by an epoch that is not its own: {brief(new.spec)}"
            self._trace.accuse("P1", self.epoch_rises_with_duties, said)

    def route_has_one_attachment(self, new: AddressAttachment) -> None:
        """One holder at most: one attachment a route."""
        same = [each.meta.name for each in self.attachments() if each.route_key == new.route_key]
        if len(same) > 1:
            self._trace.accuse("P1", self.route_has_one_attachment, f"{name_of(new)} has {', '.join(sorted(same))}")

    def grant_waits_for_release(self, old: AddressAttachment | None, new: AddressAttachment) -> None:
        """What is granted anew is in no other attachment, neither granted nor still to be released."""
        before = old.spec.held_prefixes if old is not None else ()
        gained = [prefix for prefix in new.spec.held_prefixes if prefix not in before]
        for other in self.attachments():
            if other.meta.name == new.meta.name:
                continue
            released = tuple(prefix for release in other.spec.releasing for prefix in release.prefixes)
            prefix = overlap(gained, (*other.spec.held_prefixes, *released))
            if prefix is not None:
                said = f"{name_of(new)} is granted {show(prefix)}, which {name_of(other)} has ({brief(other.spec)})"
                self._trace.accuse("P1", self.grant_waits_for_release, said)

    def release_ends_by_confirmation(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """Only its node's word, its Node gone, or the same Pod holding again there ends an entry; ``Now`` stays."""
        after = {_identity(entry): entry for entry in new.spec.releasing}
        for entry in old.spec.releasing:
            kept = after.get(_identity(entry))
            if kept is not None:
                if entry.how is How.NOW and kept.how is not How.NOW:
                    said = f"{name_of(new)}: the release by {entry.pod_name} is no longer due now"
                    self._trace.accuse("P1", self.release_ends_by_confirmation, said)
                continue
            if not self._may_end(entry, old, new):
                said = f"{name_of(new)}: the release by {entry.pod_name} on {entry.node_name} ended unconfirmed"
                self._trace.accuse("P1", self.release_ends_by_confirmation, said)
        holder, next_ = old.spec.holder, new.spec.holder
        if holder is None or self._is_gone(old, holder.node_name, holder.node_uid):
            return
        for prefix in old.spec.held_prefixes:
            holds_on = (
                next_ is not None
                and (next_.pod_uid, next_.node_uid) == (holder.pod_uid, holder.node_uid)
                and prefix in new.spec.held_prefixes
            )
            is_released = any(
                (entry.pod_uid, entry.node_uid) == (holder.pod_uid, holder.node_uid) and prefix in entry.prefixes
                for entry in new.spec.releasing
            )
            if not holds_on and not is_released:
                said = (
                    f"{name_of(new)}: {holder.pod_name} on {holder.node_name} lost {show(prefix)} and releases nothing"
                )
                self._trace.accuse("P1", self.release_ends_by_confirmation, said)

    def _is_gone(self, old: AddressAttachment, name: str, uid: str) -> bool:
        """Whether a Node is gone, or has been out of service at some time since the attachment was written."""
        was_off = self._facts.was_since(self._written_at[old.meta.uid], "tainted", uid)
        return was_off or is_gone(self._ledger.objects, name, uid)

    def _may_end(self, entry: Release, old: AddressAttachment, new: AddressAttachment) -> bool:
        report = old.report_of(entry.node_name)
        if report is not None and report.released >= entry.epoch and entry.how is How.NOW:
            return True
        if self._is_gone(old, entry.node_name, entry.node_uid):
            return True
        holder = new.spec.holder
        is_again = holder is not None and (holder.pod_uid, holder.node_uid) == (entry.pod_uid, entry.node_uid)
        return is_again and set(entry.prefixes) <= set(new.spec.held_prefixes)

    def release_is_confirmed_truly(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """A node that confirms a release has nothing of it in its kernel."""
        said_before = {report.node_name: report.released for report in old.nodes}
        for report in new.nodes:
            machine = self._site.machines.get(report.node_name)
            if report.released <= said_before.get(report.node_name, 0) or machine is None:
                continue
            if now() <= machine.mistaken_until:
                continue
            entries = [entry for entry in new.spec.releasing if entry.node_name == report.node_name]
            if any(entry.epoch > report.released or entry.how is not How.NOW for entry in entries):
                continue
            for entry in entries:
                left = self._left(report.node_name, entry)
                if left is not None:
                    said = (
                        f"{name_of(new)}: {report.node_name} confirmed the release by {entry.pod_name}, and has {left}"
                    )
                    self._trace.accuse("P1", self.release_is_confirmed_truly, said)

    def _left(self, node: str, entry: Release) -> object | None:
        holding = [
            prefix
            for each in self.attachments()
            for prefix in (*each.spec.held_prefixes, *(p for r in each.spec.releasing for p in r.prefixes))
            if each.spec.holder is not None and each.spec.holder.node_name == node
        ]
        kernel = self._site.fabric.node(node)
        return next(
            (
                each
                for each in kernel.entries | kernel.stale
                if overlap((each.prefix,), entry.prefixes) is not None and overlap((each.prefix,), holding) is None
            ),
            None,
        )

    def attachment_ends_empty(self, old: AddressAttachment) -> None:
        """An attachment goes when nothing is held, and nothing is to be released on a node that is there."""
        spec = old.spec
        waiting = [
            entry for entry in spec.releasing if not is_gone(self._ledger.objects, entry.node_name, entry.node_uid)
        ]
        if (spec.holder is not None and spec.held_prefixes) or waiting:
            self._trace.accuse("P1", self.attachment_ends_empty, f"{name_of(old)} is gone with {brief(spec)}")

    # ------------------------------------------------------------ P2
    def grant_is_permitted(self, old: AddressAttachment | None, new: AddressAttachment) -> None:
        """What is granted was, lately at least, claimed by this very route, in a pool of its, and admitted there."""
        before = old.spec.held_prefixes if old is not None else ()
        for prefix in new.spec.held_prefixes:
            if prefix not in before and not self._facts.was_permitted(new.spec.route, prefix):
                said = f"{name_of(new)} is granted {show(prefix)}, for which it was not accepted"
                self._trace.accuse("P2", self.grant_is_permitted, said)

    def holder_is_of_the_route(self, new: AddressAttachment) -> None:
        """The holder is a Pod that exists or existed, of the route's namespace, on that node, with those IPs."""
        holder = new.spec.holder
        if holder is None:
            return
        pod = self._pods.get(holder.pod_uid)
        if pod is None or (pod.meta.namespace, pod.node_name) != (new.spec.route.namespace, holder.node_name):
            said = f"{name_of(new)} names {holder.pod_name} ({holder.pod_uid}) on {holder.node_name}"
            self._trace.accuse("P2", self.holder_is_of_the_route, said)

    def held_address_stays(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """What is attached and still claimed by an accepted route is not withdrawn, whatever others claim."""
        route = self._ledger.objects.get(new.route_key)
        if not isinstance(route, GKEIPRoute) or route.meta.uid != new.spec.route.uid or old.meta.is_terminating:
            return
        if old.meta.labels.get(CLASS_LABEL) != class_of(self._ledger.objects, route):
            return
        for prefix in old.spec.held_prefixes:
            if prefix in new.spec.held_prefixes or not self._facts.has_been("claims", route.meta.uid, prefix):
                continue
            if self._facts.has_been("accepted", route.meta.uid):
                said = f"{name_of(new)} lost {show(prefix)}, which it has claimed and been granted all along"
                self._trace.accuse("P2", self.held_address_stays, said)

    def frozen_choice_stays(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """With ``hold`` no other Pod takes over from one that is known to be there and has not finished."""
        route, holder, next_ = self._ledger.objects.get(new.route_key), old.spec.holder, new.spec.holder
        if holder is None or next_ is None or next_.pod_uid == holder.pod_uid:
            return
        if route is None or route.meta.uid != new.spec.route.uid or not self._facts.has_been("frozen", route.meta.uid):
            return
        # A leader whose watch of Pods is behind does not know the Pod yet to which another leader gave the address.
        if self._facts.has_been("there", holder.pod_uid) and not is_gone(
            self._ledger.objects, holder.node_name, holder.node_uid
        ):
            said = f"{name_of(new)} moves from {holder.pod_name} to {next_.pod_name} though the choice is frozen"
            self._trace.accuse("P3", self.frozen_choice_stays, said)

    def attachment_is_of_one_class(self, old: AddressAttachment, new: AddressAttachment) -> None:
        """What was attached by the rules of one class is let go before it is attached by those of another."""
        was, is_ = (each.meta.labels.get(CLASS_LABEL) for each in (old, new))
        if was is not None and is_ != was:
            said = f"{name_of(new)} was attached by class {was} and goes on by {is_}"
            self._trace.accuse("P3", self.attachment_is_of_one_class, said)

    # ------------------------------------------------------------ P4
    def foreign_is_untouched(self, written: Written) -> None:
        """We write nothing to another controller's objects; to a user's, status and Gateway API's own finalizer."""
        if written.actor == USER or written.key.kind is Kind.ATTACHMENT:
            return
        old, new = written.old, written.new
        is_ours = written.key.name not in ("foreign", FOREIGN_CLASS)
        may_change = {IN_USE_FINALIZER} if written.key.kind is Kind.GATEWAY_CLASS else set()
        changed = {*new.meta.finalizers} ^ {*old.meta.finalizers} if new is not None and old is not None else {"all"}
        if not is_ours or changed - may_change:
            self._trace.accuse("P4", self.foreign_is_untouched, f"{written.actor} wrote to {written.key}")

    def class_that_may_be_in_use_is_kept(self, written: Written) -> None:
        """A Gateway that nobody can read may be of any class: none loses Gateway API's finalizer while there is one."""
        old, new = written.old, written.new
        if old is None or new is None or IN_USE_FINALIZER not in {*old.meta.finalizers} - {*new.meta.finalizers}:
            return
        unread = [key for key, since in self._unreadable_since.items() if self._facts.must_be_known(since)]
        if unread:
            said = f"{written.key} loses its finalizer, and {unread[0]} cannot be read"
            self._trace.accuse("P7", self.class_that_may_be_in_use_is_kept, said)


def _duties(spec: AttachmentSpec) -> tuple[object, ...]:
    return spec.addresses, spec.holder, spec.mode, spec.strategy, spec.network, spec.pod_address, spec.flows


def _identity(entry: Release) -> tuple[object, ...]:
    return entry.epoch, entry.node_uid, entry.pod_uid, entry.prefixes


def name_of(attachment: AddressAttachment) -> str:
    """The route's name; its attachment's own is a hash."""
    return attachment.route_key.path


def brief(spec: AttachmentSpec) -> str:
    """A decision in one line."""
    shown = [f"{show(each.prefix)}{'?' if each.pending else ''}" for each in spec.addresses]
    holder = f"{spec.holder.pod_name}@{spec.holder.node_name}" if spec.holder is not None else "nobody"
    releasing = [
        f"{release.pod_name}@{release.node_name} {release.how} {' '.join(map(show, release.prefixes))}"
        for release in spec.releasing
    ]
    parts = [f"{holder} holds {' '.join(shown) or 'nothing'}"]
    parts += [f"releasing {', '.join(releasing)}"] if releasing else []
    return f"{'; '.join(parts)} (epoch {spec.epoch % 10_000_000})"
