"""
How large is the image, and how long do its programs take from their start until a probe is answered?

Each runs as the shipped manifests start it: on the image's own root, read-only, with its user and its capabilities.
Beside them the floor: the image's interpreter, which starts and does nothing. What a container runtime adds is not in
these figures.

`nox -s bench`, or `python benchmarks/image_start.py --rounds 10 --json`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import built_image

SERVED = ("--listen=:8080", "--log-level=error")
AGENT = ("/usr/local/bin/persistip-agent", "--node-name=node-a", "--sysctl-directory=/node/sys", *SERVED)
CONTROLLER = ("/usr/local/bin/persistip-controller", *SERVED)


def measured(root: Path) -> dict[str, Callable[[], float]]:
    """Return what is started, each with the seconds of one start."""
    (python,) = root.glob("usr/local/bin/python3.*")
    bare = (f"/{python.relative_to(root)}", "-I", "-c", "")
    return {
        "interpreter": lambda: float(built_image.run_in(root, *bare)["ran_seconds"]),
        "controller": lambda: float(
            built_image.run_in(root, *CONTROLLER, user=built_image.mapped(65532), serves=True)["seconds"]
        ),
        "agent": lambda: float(
            built_image.run_in(root, *AGENT, capabilities=("NET_ADMIN", "NET_RAW"), serves=True)["seconds"]
        ),
    }


def main() -> int:
    """Measure, one round after the other, and show the medians."""
    parser = argparse.ArgumentParser(description="How large is the image, and how fast do its programs start?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    archive = built_image.archive()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "root"
        built_image.unpack(root)
        starts = measured(root)
        seconds: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(chosen.rounds):
            for name, start in starts.items():
                seconds[name].append(start())
    told = {
        "image_mb": round(archive.stat().st_size / 1e6, 1),
        "image_gzip_mb": round(len(gzip.compress(archive.read_bytes())) / 1e6, 1),
        **{f"{name}_start_seconds": round(median(each), 3) for name, each in seconds.items()},
    }
    print(json.dumps(told) if chosen.json else "\n".join(f"{name:28} {value}" for name, value in told.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
