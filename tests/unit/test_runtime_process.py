"""The two processes as they are started: exit statuses, signals, logs, and what an agent must not load."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from persistip.backends.memory import MemoryStore, StoreServer
from persistip.cli.logs import JSONFormatter, TextFormatter
from persistip.runtime.clock import SystemClock

LIMIT_SECONDS = 30


@pytest.fixture
async def where() -> AsyncIterator[str]:
    """Return the address of an empty cluster behind a socket; the path of a socket must be short."""
    with TemporaryDirectory(prefix="pip") as folder:
        path = Path(folder) / "store.sock"
        async with StoreServer(MemoryStore(SystemClock()), path):
            yield f"memory:{path}"


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "persistip.cli",
        "run",
        *arguments,
        "--log-format",
        "json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def first_line(process: asyncio.subprocess.Process) -> dict[str, object]:
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT_SECONDS):
        line = await process.stderr.readline()
    found: dict[str, object] = json.loads(line)
    return found


async def end(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(LIMIT_SECONDS):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_controller_told_to_stop_ends_with_status_0(where: str, number: signal.Signals) -> None:
    """It says when it has observed everything, and a signal ends it without a fault."""
    process = await start("controller", "--cluster", where)
    line = await first_line(process)
    assert (line["message"], line["level"]) == ("observed everything", "info")
    process.send_signal(number)
    status, errors = await end(process)
    assert (status, errors) == (0, "")


async def test_unusable_settings_end_with_status_2(where: str) -> None:
    """An unknown backend or cluster is one sentence on standard error, and the status for settings."""
    for arguments, said in (
        (("controller", "--cluster", "elsewhere"), "memory:/path"),
        (("controller", "--cluster", where, "--allocator", "nimbus"), "nimbus"),
        (("agent", "--cluster", where, "--node-name", "a", "--datapath", "nimbus"), "nimbus"),
    ):
        status, errors = await end(await start(*arguments))
        assert status == 2, errors
        assert said in errors
        assert "Traceback" not in errors


async def test_cluster_that_is_not_there_yet_is_waited_for() -> None:
    """A process that starts before its cluster connects when that appears."""
    with TemporaryDirectory(prefix="pip") as folder:
        path = Path(folder) / "store.sock"
        process = await start("controller", "--cluster", f"memory:{path}")
        assert (await first_line(process))["message"] == "lost a source of changes"
        async with StoreServer(MemoryStore(SystemClock()), path):
            while (await first_line(process))["message"] != "observed everything":
                pass
        process.terminate()
        assert (await end(process))[0] == 0


async def test_agent_loads_no_library_that_it_does_not_need() -> None:
    """Everything an agent imports leaves out terminals, templates, YAML and other backends' clients."""
    code = """
import sys
import persistip.cli.run, persistip.agent
from persistip.backends.registry import find_announcer
import persistip.backends.memory
find_announcer("layer2")
unwanted = {"rich", "jinja2", "yaml", "kubernetes", "google", "structlog", "tenacity"}
print(sorted(unwanted & set(sys.modules)))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().strip() == "[]"


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": "acted", "levelname": "INFO", "levelno": logging.INFO, "created": 1.5})
    vars(made).update(extra)
    return made


def test_json_line_holds_every_fact() -> None:
    """A line can be parsed, keeps types, and a fact cannot overwrite time, level or message."""
    line = json.loads(JSONFormatter().format(record(epoch=7, addresses=["203.0.113.5"], time="never")))
    assert line == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "info",
        "message": "acted",
        "epoch": 7,
        "addresses": ["203.0.113.5"],
    }


def test_text_line_can_be_split_again() -> None:
    """Values with white space are quoted, and lists and mappings are short."""
    line = TextFormatter().format(
        record(error="no such link", conditions={"Ready": "True"}, addresses=["a", "b"], why="")
    )
    assert (
        line == '1970-01-01T00:00:01.500Z info    acted error="no such link" conditions=Ready=True addresses=a,b why=""'
    )


def test_traceback_follows_its_line() -> None:
    """The cause of a fault is in both forms."""
    try:
        raise ZeroDivisionError("nought")  # noqa: TRY301 - to be caught here
    except ZeroDivisionError:
        made = record(exc_info=sys.exc_info())
    assert "ZeroDivisionError: nought" in TextFormatter().format(made).splitlines()[-1]
    assert "ZeroDivisionError: nought" in json.loads(JSONFormatter().format(made))["traceback"]
