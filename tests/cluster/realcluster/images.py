"""
How does a container image come about without an engine and a registry?

In: files and an entrypoint.  Out: a tar in the OCI layout, as `ctr images import` takes it.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_image(target: Path, reference: str, files: Mapping[str, bytes], entrypoint: Sequence[str]) -> Path:
    """Write an image of one layer with *files*, all of them executable."""
    layer = _tar({name: (content, 0o755) for name, content in files.items()})
    host = {"architecture": _MACHINES.get(platform.machine(), platform.machine()), "os": "linux"}
    blobs: dict[str, tuple[bytes, int]] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = (content, 0o644)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    described = blob("layer.v1.tar", layer)
    config = {
        "config": {"Entrypoint": list(entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [described["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(host | config).encode()),
        "layers": [described],
    }
    named = blob("manifest.v1+json", json.dumps(manifest).encode())
    named |= {"platform": host, "annotations": {"io.containerd.image.name": reference}}
    blobs["index.json"] = (json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(), 0o644)
    blobs["oci-layout"] = (b'{"imageLayoutVersion": "1.0.0"}', 0o644)
    target.write_bytes(_tar(blobs))
    return target


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()
