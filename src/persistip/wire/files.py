"""
What do a user's manifest files ask for?

In: YAML or JSON files, as for ``kubectl apply -f``.  Out: the objects that can be used, and every fault with file,
line, object, field path and fix. A fault costs its own object and nothing else. A reader that has use for some kinds
only says so, and is told what else there was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import attrs
import msgspec

from persistip.model.address import Malformed, parse_prefix
from persistip.model.gateway import Gateway
from persistip.model.keys import Kind, ObjectKey
from persistip.model.route import GATEWAY_GROUP, GKEIPRoute
from persistip.strategies import ClusterObject
from persistip.wire import structs, surroundings, workloads
from persistip.wire.check import Path, check_object, closest, name_of, show_path
from persistip.wire.decode import Unreadable, key_of, to_model
from persistip.wire.decode_values import selector_to_model
from persistip.wire.documents import Document, TextFault, parse_documents
from persistip.wire.kinds import RESOURCES

_STRUCTS: dict[str, type[structs.Wire]] = {
    "GatewayClass": structs.GatewayClassObject,
    "Gateway": structs.GatewayObject,
    "GKEIPRoute": structs.RouteObject,
    "AddressAttachment": structs.AttachmentObject,
    "Pod": surroundings.PodObject,
    "Node": surroundings.NodeObject,
    "Namespace": surroundings.NamespaceObject,
    "ConfigMap": surroundings.ConfigMapObject,
    "Network": surroundings.NetworkObject,
    "GKENetworkParamSet": surroundings.ParamSetObject,
    "Service": surroundings.ServiceObject,
    "ServiceCIDR": surroundings.ServiceCIDRObject,
    "CustomResourceDefinition": surroundings.DefinitionObject,
    "StatefulSet": workloads.StatefulSetObject,
    "Deployment": workloads.DeploymentObject,
}
_WORKLOADS = frozenset({"StatefulSet", "Deployment"})
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# So alike that it is a slip and no other kind: "GKEIPRout" is, "HTTPRoute" is not.
_SLIP = 0.85
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@attrs.frozen(kw_only=True)
class Fault:
    """
    What is wrong, where, and how to mend it; ``line``, ``document`` 0 and ``subject`` empty where there is none.

    ``key`` is the object that is lost by it, where its kind and name could be told and decisions look at the kind.
    """

    file: str
    line: int = 0
    column: int = 0
    document: int = 0
    subject: str = ""
    path: str = ""
    message: str
    key: ObjectKey | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        document = f" (document {self.document})" if self.document else ""
        return ": ".join(part for part in (f"{place}{document}", self.subject, self.path, self.message) if part)


@attrs.frozen(kw_only=True)
class Manifest:
    """
    One object of a file.

    ``body`` is what to hand to an API server, its namespace filled in; ``model`` is None for kinds that decisions do
    not look at (StatefulSet, Deployment).
    """

    kind: str
    namespace: str
    name: str
    body: dict[str, Any]
    model: ClusterObject | None
    file: str
    document: int
    lines: Mapping[Path, int] = attrs.field(repr=False, eq=False)

    @property
    def subject(self) -> str:
        """Kind and path, for people."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def fault(self, path: Path, message: str) -> Fault:
        """A fault of this object at *path*."""
        return Fault(
            file=self.file,
            line=_line_of(self.lines, path),
            document=self.document,
            subject=self.subject,
            path=show_path(path),
            message=message,
        )


@attrs.frozen
class Other:
    """An object of a kind that the reader has no use for, by whoever defines such a kind."""

    kind: str


_Found = Manifest | Fault | Other


@attrs.frozen
class Manifests:
    """All that could be read, in the order of the files, all that is wrong, and the kinds that were not asked for."""

    objects: tuple[Manifest, ...]
    faults: tuple[Fault, ...]
    others: tuple[Other, ...] = ()


def read_files(
    paths: Iterable[FilePath | str], *, namespace: str = "default", kinds: Collection[str] | None = None
) -> Manifests:
    """
    Read files, and the ``.yaml``, ``.yml`` and ``.json`` files of directories.

    *namespace* is for objects that name none. *kinds*: the only ones to look at; None: all that are known, and an
    unknown one is a fault. A file that cannot be read is a fault like any other.
    """
    found: list[_Found] = []
    for path in paths:
        for file in _files_of(FilePath(path)):
            try:
                text = file.read_bytes().decode("utf-8-sig")
            except OSError as error:
                found.append(Fault(file=str(file), message=f"cannot be read: {error.strerror or error}"))
            except UnicodeDecodeError as error:
                found.append(Fault(file=str(file), message=f"is no UTF-8 text (byte {error.start}); save it as UTF-8"))
            else:
                found += _read(text, str(file), namespace, kinds)
    return _without_duplicates(found)


def read_text(
    text: str, *, file: str = "-", namespace: str = "default", kinds: Collection[str] | None = None
) -> Manifests:
    """Read one text; *file* is what faults call it."""
    return _without_duplicates(_read(text, file, namespace, kinds))


def join_manifests(parts: Iterable[Manifests]) -> Manifests:
    """Several readings as one, in their order: an object that stands in two of them is a fault as in one file."""
    found: list[_Found] = []
    for part in parts:
        found += [*part.objects, *part.faults, *part.others]
    return _without_duplicates(found)


def find_doubts(manifests: Manifests) -> tuple[Fault, ...]:
    """
    What the API would take and the controller would refuse: unusable addresses, parents that no file defines or none at
    all, a selector of nothing.

    For a reader that has the whole cluster in its files; the objects concerned stay, their conditions say the same.
    """
    gateways = {(each.namespace, each.name) for each in manifests.objects if each.kind == Kind.GATEWAY}
    return tuple(doubt for manifest in manifests.objects for doubt in _doubts(manifest, gateways))


def _doubts(manifest: Manifest, gateways: set[tuple[str, str]]) -> Iterator[Fault]:
    model = manifest.model
    if not isinstance(model, Gateway | GKEIPRoute):
        return
    for index, address in enumerate(model.addresses):
        prefix = parse_prefix(address)
        if isinstance(prefix, Malformed):
            yield manifest.fault(("spec", "addresses", index, "value"), prefix.message)
    if isinstance(model, GKEIPRoute):
        if not model.parent_refs:
            yield manifest.fault(
                ("spec", "parentRefs"), "is missing; name the Gateway whose addresses the route claims"
            )
        if model.pod_selector.is_empty:
            yield manifest.fault(
                ("spec", "podSelector"), "is empty; name labels of the Pods that may hold the addresses"
            )
    for index, ref in enumerate(model.parent_refs if isinstance(model, GKEIPRoute) else ()):
        parent = (ref.namespace or manifest.namespace, ref.name)
        if ref.group == GATEWAY_GROUP and ref.kind == "Gateway" and parent not in gateways:
            shown = {f"{namespace}/{name}": name for namespace, name in gateways}
            meant = closest("/".join(parent), shown)
            fix = f"did you mean {meant}?" if meant else "define it, or correct name and namespace"
            yield manifest.fault(("spec", "parentRefs", index, "name"), f"no Gateway {'/'.join(parent)} exists; {fix}")


def _files_of(path: FilePath) -> Iterable[FilePath]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.suffix in SUFFIXES)
    return (path,)


def _without_duplicates(found: Iterable[_Found]) -> Manifests:
    objects: dict[tuple[str, str, str], Manifest] = {}
    faults: list[Fault] = []
    others: list[Other] = []
    for each in found:
        if isinstance(each, Fault):
            faults.append(each)
            continue
        if isinstance(each, Other):
            others.append(each)
            continue
        first = objects.setdefault((each.kind, each.namespace, each.name), each)
        if first is not each:
            where = f"{first.file}:{first.lines.get((), 0)}"
            faults.append(each.fault((), f"is defined twice, first at {where}, which is used; remove one"))
    return Manifests(tuple(objects.values()), tuple(faults), tuple(others))


def _read(text: str, file: str, namespace: str, kinds: Collection[str] | None) -> list[_Found]:
    found: list[_Found] = []
    for parsed in parse_documents(text):
        if isinstance(parsed, TextFault):
            found.append(
                Fault(
                    file=file,
                    line=parsed.line,
                    column=parsed.column,
                    document=parsed.document,
                    path=show_path(parsed.path),
                    message=parsed.message,
                )
            )
        else:
            values = list(_flattened(parsed.value, ()))
            lines = _lines_by_root(parsed.lines, {path for _, path in values})
            for value, path in values:
                if (items := _items_of(value)) is not None:
                    said = f"is {name_of(items)}; a {value['kind']} has its objects there, as a list"
                    where = show_path((*path, "items"))
                    line = _line_of(lines[path], ("items",))
                    found.append(Fault(file=file, line=line, document=parsed.number, path=where, message=said))
                    continue
                if kinds is not None and (other := _other(value, kinds)) is not None:
                    found.append(other)
                    continue
                found += _Object(parsed, value, path, lines=lines[path], file=file, namespace=namespace).read()
    return found


def _flattened(value: Any, path: Path) -> Iterator[tuple[Any, Path]]:
    """The objects of a document: itself, or the items of a List, as ``kubectl get -o yaml`` prints them."""
    items = _items_of(value)
    if not isinstance(items, list):
        yield value, path
        return
    for index, item in enumerate(items):
        yield from _flattened(item, (*path, "items", index))


def _items_of(value: Any) -> Any:
    """What a List holds, in which nothing is an empty one, as Go writes it; None for what is no List."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List"):
        return None
    items, listed = value.get("items"), kind.removesuffix("List")
    is_list = not listed or listed in _STRUCTS or isinstance(items, list)
    return ([] if items is None else items) if is_list else None


def _lines_by_root(lines: Mapping[Path, int], roots: Collection[Path]) -> dict[Path, dict[Path, int]]:
    """The lines of each object of a document by its own paths, found in one go: a cluster's export is one document."""
    by_root: dict[Path, dict[Path, int]] = {root: {} for root in roots}
    depths = {len(root) for root in roots}
    for path, line in lines.items():
        for depth in depths:
            if (own := by_root.get(path[:depth])) is not None:
                own[path[depth:]] = line
    return by_root


def _other(value: Any, kinds: Collection[str]) -> Other | None:
    """An object of another kind than *kinds*, and none of theirs misspelt; Istio has a Gateway too."""
    if not isinstance(value, dict) or not isinstance(kind := value.get("kind"), str):
        return None
    version = value.get("apiVersion")
    if kind not in kinds:
        return None if closest(kind, kinds, likeness=_SLIP) else Other(kind)
    group = version.partition("/")[0] if isinstance(version, str) and "/" in version else ""
    ours = {each.partition("/")[0] for each in RESOURCES[kind].api_versions}
    return Other(f"{kind}.{group}") if "." in group and group not in ours else None


def _read_path(shown: str) -> Path:
    """What ``show_path`` has shown."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", shown))


def _line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of *path*, or of what is nearest above it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


class _Object:
    """One object of a document, on its way to a Manifest or its faults; ``_root`` is its place in the document."""

    def __init__(
        self, document: Document, value: Any, root: Path, *, lines: Mapping[Path, int], file: str, namespace: str
    ) -> None:
        self._document, self._value, self._root, self._lines, self._file = document, value, root, lines, file
        self._default_namespace = namespace
        self._subject = ""

    def _fault(self, path: Path, message: str) -> Fault:
        return Fault(
            file=self._file,
            line=_line_of(self._lines, path),
            document=self._document.number,
            subject=self._subject,
            path=show_path(path),
            message=message,
            key=self._key(),
        )

    def _key(self) -> ObjectKey | None:
        """Which object this is, where that much can be told."""
        kind = self._value.get("kind") if isinstance(self._value, dict) else None
        if not isinstance(kind, str) or kind not in tuple(Kind):
            return None
        key = key_of(Kind(kind), self._value)
        if key is None:
            return None
        namespace = key.namespace or self._default_namespace
        return key._replace(namespace=namespace if RESOURCES[kind].namespaced else "")

    def read(self) -> list[Manifest | Fault]:
        if not isinstance(self._value, dict):
            return [self._fault((), "is no object; a manifest has apiVersion, kind, metadata and spec")]
        self._subject = _subject_of(self._value)
        type_fault = self._type_fault()
        if type_fault is not None:
            return [type_fault]
        faults: list[Manifest | Fault] = [
            self._fault(finding.path, finding.message)
            for finding in check_object(
                self._value,
                _STRUCTS[self._value["kind"]],
                lambda path: self._document.scalars.get((*self._root, *path)),
            )
        ]
        if not faults:
            faults += self._meaning_faults()
        return faults or [self._manifest()]

    def _type_fault(self) -> Fault | None:
        kind, version = self._value.get("kind"), self._value.get("apiVersion")
        if not isinstance(kind, str):
            return self._fault(("kind",), f"is required; one of {', '.join(_STRUCTS)}")
        if kind not in _STRUCTS:
            meant = closest(kind, _STRUCTS)
            fix = f"did you mean {meant}?" if meant else f"known are {', '.join(_STRUCTS)}"
            return self._fault(("kind",), f"unknown kind {kind!r}; {fix}")
        if version not in RESOURCES[kind].api_versions:
            versions = " or ".join(RESOURCES[kind].api_versions)
            said = "is missing" if version is None else f"is {version!r}"
            return self._fault(("apiVersion",), f"{said}; {kind} is written with {versions}")
        return None

    def _meaning_faults(self) -> Iterator[Fault]:
        """Faults that need the object's fields to be right one by one."""
        kind, metadata = self._value["kind"], self._value["metadata"]
        name, longest = metadata["name"], 63 if kind == Kind.NAMESPACE else 253
        if not _SUBDOMAIN.fullmatch(name) or len(name) > longest:
            rule = f"at most {longest} lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
            yield self._fault(("metadata", "name"), f"{name!r} is no name in Kubernetes: {rule}")
        if metadata.get("namespace") and not RESOURCES[kind].namespaced:
            yield self._fault(("metadata", "namespace"), f"{kind} belongs to no namespace; remove the line")
        if kind in _WORKLOADS:
            yield from self._workload_faults()
        elif kind in tuple(Kind):
            model = to_model(self._value)
            if isinstance(model, Unreadable):
                yield self._fault(_read_path(model.path), model.message)

    def _workload_faults(self) -> Iterator[Fault]:
        spec = self._value["spec"]
        if (spec.get("replicas") or 0) < 0:
            yield self._fault(("spec", "replicas"), f"is {spec['replicas']}; 0 or more")
        selector = selector_to_model(msgspec.convert(spec["selector"], structs.Selector))
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if selector.is_empty:
            yield self._fault(("spec", "selector"), "selects everything; name labels of the template in matchLabels")
        elif (why := selector.fault()) is not None:
            yield self._fault(("spec", "selector"), why)
        elif not selector.matches(labels):
            message = f"selector does not match these labels; give the template {dict(selector.match_labels)}"
            yield self._fault(("spec", "template", "metadata", "labels"), message)

    def _manifest(self) -> Manifest:
        body, kind = dict(self._value), str(self._value["kind"])
        namespace = ""
        if RESOURCES[kind].namespaced:
            namespace = body["metadata"].get("namespace") or self._default_namespace
            body["metadata"] = {**body["metadata"], "namespace": namespace}
        model = to_model(body) if kind in tuple(Kind) else None
        return Manifest(
            kind=kind,
            namespace=namespace,
            name=body["metadata"]["name"],
            body=body,
            model=None if isinstance(model, Unreadable) else model,
            file=self._file,
            document=self._document.number,
            lines=self._lines,
        )


def _subject_of(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    names = metadata if isinstance(metadata, Mapping) else {}
    path = "/".join(str(names[key]) for key in ("namespace", "name") if names.get(key))
    return " ".join(part for part in (str(value.get("kind") or ""), path) if part)
