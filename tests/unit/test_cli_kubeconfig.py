"""Does whoever gives a bad kubeconfig learn which file, what is wrong with it, and what to do?"""

import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from commandline import call

SERVER = "https://127.0.0.1:1"
VERBS = (("plan",), ("explain", "phone/nat"), ("move", "phone/nat", "--to", "nat-0"), ("doctor",), ("uninstall",))


def kubeconfig(
    server: str = SERVER, cluster: Mapping[str, Any] | None = None, user: Any = None, user_name: str = "me"
) -> str:
    """Return one whose only context has these."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server, **(cluster or {})}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": user_name}}],
            "users": [{"name": "me", "user": user or {"token": "mine"}}],
            "current-context": "c",
        }
    )


BAD = {
    "not-yaml": (b"clusters: [", "is no YAML"),
    "not-text": (b"\xff\xfe", "has not the form of one"),
    "list": (b"[1]", "has not the form of one"),
    "empty": (b"{}", "current-context"),
    "no-such-user": (kubeconfig(user_name="somebody").encode(), "its cluster and its user"),
    "no-server": (kubeconfig("").encode(), "write it as https://HOST:PORT"),
    "server-without-scheme": (kubeconfig("cluster.example").encode(), "write it as https://HOST:PORT"),
    "port-beyond-ports": (kubeconfig("https://127.0.0.1:99999").encode(), "write it as https://HOST:PORT"),
    "authority-that-is-none": (
        kubeconfig(cluster={"certificate-authority-data": "AAAA"}).encode(), "a file that it names"
    ),
    "authority-that-is-gone": (kubeconfig(cluster={"certificate-authority": "/nowhere/ca"}).encode(), "/nowhere/ca"),
    "certificate-that-is-not-there": (
        kubeconfig(user={"client-certificate": "/nowhere/c", "client-key": "/nowhere/k"}).encode(), "/nowhere/c"
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_bad_kubeconfig_is_named_with_what_is_wrong(content: tuple[bytes, str], tmp_path: Path) -> None:
    """Whatever is wrong with the file: one line with its name and the fault, and status 2."""
    path = tmp_path / "config"
    path.write_bytes(content[0])
    said = call("plan", "--kubeconfig", str(path))
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(f"persistip: kubeconfig {path}")
    assert content[1] in said.err
    assert said.err.count("\n") == 1


def test_folder_in_place_of_a_kubeconfig_is_refused(tmp_path: Path) -> None:
    """A folder is told to be one."""
    said = call("plan", "--kubeconfig", str(tmp_path))
    assert (said.status, f"kubeconfig {tmp_path}: Is a directory" in said.err) == (2, True)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_server_that_is_not_there_is_named_by_every_verb(verb: tuple[str, ...], tmp_path: Path) -> None:
    """Nobody listens: the address, what the system says of it, and which options choose another; status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    path = tmp_path / "config"
    path.write_text(kubeconfig(f"https://127.0.0.1:{port}"))
    said = call(*verb, "--kubeconfig", str(path))
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        f"persistip: the API server cannot be reached: no connection to 127.0.0.1:{port}: Connection refused; "
        "is it the one you mean (--kubeconfig, --context)?\n"
    )


def test_server_of_another_protocol_is_named_by_its_address(tmp_path: Path) -> None:
    """One that answers TLS with something else is told with its address, and no object of Python is shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = tmp_path / "config"
        path.write_text(kubeconfig(f"https://127.0.0.1:{port}"))

        def answer() -> None:
            with suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(4096)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = Thread(target=answer)
        answering.start()
        said = call("doctor", "--kubeconfig", str(path))
        server.shutdown(socket.SHUT_RDWR)
    answering.join()
    assert said.status == 2
    assert f"no connection to 127.0.0.1:{port}: [SSL" in said.err
    assert " object at 0x" not in said.err


@pytest.mark.parametrize("seconds", ["-5", "0", "nan"])
def test_time_that_is_none_is_refused(seconds: str) -> None:
    """`persistip uninstall` waits for a positive time, and asks no cluster before it knows."""
    said = call("uninstall", f"--timeout={seconds}")
    assert (said.status, said.out) == (2, "")
    assert "--timeout" in said.err


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("--node", "--kubeconfig", "config"), "leave out --kubeconfig"),
        (("--node", "--context", "other"), "leave out --kubeconfig"),
        (("--node", "--policy.system-namespace", "other"), "leave out --kubeconfig"),
        (("--uplinks", "eth0"), "give --node too"),
    ],
    ids=["kubeconfig", "context", "policy", "uplinks"],
)
def test_doctor_refuses_what_would_mean_nothing(words: tuple[str, ...], fix: str) -> None:
    """Options of a cluster beside --node, and those of a node without it, are told instead of being passed over."""
    said = call("doctor", *words)
    assert (said.status, said.out) == (2, "")
    assert fix in said.err
