"""Two controllers, three agents, everything that can go wrong: is every promise kept, and would a breach be seen?"""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted_mistakes import MISTAKES, planted

from persistip.model.pod import Pod
from persistip.testing.simulation import Options, Report, shorten, simulate

BUDGET_SECONDS = 30.0
LEAST_SEEDS = 20
SEARCHED_SEEDS = 80
KEPT = Path(__file__).with_name("seeds.txt")


def judge(report: Report, options: Options | None = None) -> None:
    """Fail with the shortest story that breaks the same promise, and how to see the whole."""
    if report.is_good:
        return
    short = shorten(report, options)
    pytest.fail(f"{short}\n\nThe whole story: pytest tests/simulation --seed {report.seed} -s", pytrace=False)


def kept_seeds() -> list[int]:
    """Return the seeds of seeds.txt."""
    lines = KEPT.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def test_seeds_keep_every_promise(request: pytest.FixtureRequest) -> None:
    """No scenario breaks a promise: kept seeds and the first for half a minute, or as many as are asked for."""
    one, many = request.config.getoption("--seed", None), request.config.getoption("--seeds", None)
    if one is not None:
        report = simulate(one)
        print(*report.trace, sep="\n")
        judge(report)
        return
    for seed in kept_seeds():
        judge(simulate(seed))
    began = time.monotonic()
    seed = 0
    while seed < (LEAST_SEEDS if many is None else many) or (
        many is None and time.monotonic() - began < BUDGET_SECONDS
    ):
        judge(simulate(seed))
        seed += 1
    print(f"{seed} seeds and {len(kept_seeds())} kept ones in {time.monotonic() - began:.0f} s")


# The first seed that sees a mistake, so that the search is short; it goes on from 0 where scenarios have changed since.
HINTS: dict[str, int] = {}


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_planted_mistake_is_caught(name: str, request: pytest.FixtureRequest) -> None:
    """Each planted mistake breaks a promise in some seed of a bounded search, and the check that is meant sees it."""
    if request.config.getoption("--seed", None) is not None:
        pytest.skip("one seed is asked for")
    wanted = MISTAKES[name].seen_by
    hint = HINTS.get(name)
    with planted(name):
        for seed in ([] if hint is None else [hint]) + list(range(SEARCHED_SEEDS)):
            seen = {each.check for each in simulate(seed).violations}
            if wanted & seen:
                print(f"{name}: seed {seed}, seen by {', '.join(sorted(wanted & seen))}")
                return
    pytest.fail(f"{name} is not seen by {' or '.join(sorted(wanted))} in {SEARCHED_SEEDS} seeds", pytrace=False)


def test_scenario_shortened_breaks_the_same_promise() -> None:
    """A failing scenario gets shorter and still fails by the same check."""
    with planted("pins_never_forgotten"):
        report = next(each for each in map(simulate, range(SEARCHED_SEEDS)) if not each.is_good)
        short = shorten(report, attempts=12)
    assert len(short.scenario) < len(report.scenario)
    assert {each.check for each in short.violations} & {each.check for each in report.violations}
    assert str(short).startswith(f"seed {report.seed}:\nP4 broken at")


def test_same_seed_gives_the_same_run_in_another_process() -> None:
    """A run depends on its seed alone: not on how a process hashes strings, nor on what it ran before."""
    code = "from persistip.testing.simulation import simulate\nprint(*simulate(5).trace, sep='\\n')"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        ).stdout
        for salt in ("1", "2")
    }
    assert told == {"\n".join(simulate(5).trace) + "\n"}


class Patient:
    """A reaction mode of a user: a Pod may hold once it has an IP, ready or not."""

    def refusal(self, pod: Pod) -> str | None:
        """Refuse a Pod without IPs."""
        return None if pod.ips else "has no IP"


class Moody:
    """A reaction mode that must not be: what it says depends on how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def refusal(self, pod: Pod) -> str | None:
        """Refuse every other time."""
        self.asked += 1
        return "is out of favour" if self.asked % 2 else None


def test_pure_reaction_mode_of_a_user_keeps_every_promise() -> None:
    """A plugged-in mode that keeps to its contract passes."""
    for seed in range(8):
        judge(simulate(seed, Options(modes={"Patient": Patient()})), Options(modes={"Patient": Patient()}))


def test_impure_reaction_mode_of_a_user_is_caught() -> None:
    """A plugged-in mode whose answers are not a function of the Pod breaks a promise in some seed."""
    assert any(not simulate(seed, Options(modes={"Moody": Moody()})).is_good for seed in range(20))
