"""The two processes as they are watched: probes and metrics over HTTP, while they run."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from scraped import Scraped

from persistip.backends.memory import MemoryStore, StoreServer
from persistip.runtime.clock import SystemClock
from persistip.testing import builders, seed

LIMIT_SECONDS = 60
WITHOUT_PROMETHEUS = "import sys; sys.modules['prometheus_client'] = None; "
MAIN = "from persistip.cli.run import app; app()"


@asynccontextmanager
async def running(*arguments: str, program: str = MAIN) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of ours until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, "--log-format", "json", stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, message: str) -> dict[str, object]:
    """Return the first line of the log with that message."""
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT_SECONDS):
        while line := await process.stderr.readline():
            found: dict[str, object] = json.loads(line)
            if found["message"] == message:
                return found
    raise AssertionError(f"ended before it said {message!r}")


async def get(port: object, path: str) -> tuple[int, str]:
    """Return status and body."""
    async with asyncio.timeout(LIMIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(str(port)))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
    head, _, body = text.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def until(port: object, path: str, status: int) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while (await get(port, path))[0] != status:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short, as that of a socket must be."""
    with TemporaryDirectory(prefix="pip") as made:
        yield Path(made)


async def test_controller_is_watched_from_before_its_cluster_is_there(folder: Path) -> None:
    """Alive at once, ready when everything is observed, not ready when the cluster is lost; each claim is a write."""
    path = folder / "store.sock"
    store = MemoryStore(SystemClock())
    async with running("controller", "--cluster", f"memory:{path}", "--listen", "127.0.0.1:0") as process:
        port = (await said(process, "answering"))["port"]
        assert await get(port, "/healthz") == (200, "ok\n")
        assert await get(port, "/readyz") == (503, "not everything in the cluster is observed\n")
        async with StoreServer(store, path):
            await until(port, "/readyz", 200)
            await seed(store, builders.gateway_class(), builders.config_map(), builders.namespace("infra"))
            await seed(store, builders.gateway())
            async with asyncio.timeout(LIMIT_SECONDS):
                while True:
                    status, text = await get(port, "/metrics")
                    labels = {"action": "ReportGateway", "outcome": "done"}
                    if Scraped(text).value("persistip_api_actions_total", **labels):
                        break
                    await asyncio.sleep(0.02)
            assert status == 200
            found = Scraped(text)
            assert found.value("persistip_leading") == found.value("persistip_cluster_synced") == 1
            assert found.by("persistip_build_info", "process") == {"controller": 1}
            assert found.value("process_resident_memory_bytes") > 10_000_000
            assert "_created" not in text
        await until(port, "/readyz", 503)
        assert await get(port, "/healthz") == (200, "ok\n")


async def test_probes_are_answered_without_the_library_for_metrics(folder: Path) -> None:
    """Without prometheus-client everything works but /metrics, which names the extra; so does the log."""
    path = folder / "store.sock"
    arguments = ("controller", "--cluster", f"memory:{path}", "--listen", "127.0.0.1:0")
    async with (
        StoreServer(MemoryStore(SystemClock()), path),
        running(*arguments, program=WITHOUT_PROMETHEUS + MAIN) as process,
    ):
        missing = "metrics need prometheus-client: pip install 'persistip[prometheus]'"
        await said(process, missing)
        port = (await said(process, "answering"))["port"]
        await until(port, "/readyz", 200)
        assert await get(port, "/metrics") == (501, f"{missing}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--listen", "8080"), "write host:port"),
        (("--listen", "127.0.0.1:0", "--tls-key", "a"), "go together"),
        (("--tls-certificate", "a", "--tls-key", "b"), "--listen does not say where"),
        (("--listen", "127.0.0.1:0", "--tls-certificate", "/no", "--tls-key", "/no"), "cannot use the certificate"),
    ],
)
async def test_address_or_certificate_that_cannot_be_is_a_wrong_setting(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    """A process that cannot be watched as it was told to does not start, and says why in one sentence."""
    async with running("controller", "--cluster", f"memory:{folder}/store.sock", *arguments) as process:
        async with asyncio.timeout(LIMIT_SECONDS):
            _, errors = await process.communicate()
        assert process.returncode == 2
        assert words in errors.decode()
