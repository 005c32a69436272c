"""Does the frame of the tests itself hold? The suite's conftest runs here over small suites made for the purpose."""

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
HERE_IS_NOTHING = """
PREREQUISITES = dict.fromkeys(["kernel", "nft"], lambda: "none on this machine")
"""
NEEDS_KERNEL = '''
    import pytest

    @pytest.mark.requires("kernel")
    def test_something():
        """Something holds."""
'''


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return an empty suite under the rules of ours, on a machine without a kernel to spare."""
    monkeypatch.delenv("PERSISTIP_REQUIRE", raising=False)
    pytester.makeconftest(CONFTEST.read_text().replace('pytest_plugins = ["pytester"]', "") + HERE_IS_NOTHING)
    pytester.makeini("[pytest]\nmarkers =\n    requires\n    kernel\n    nft\n")
    return pytester


def test_prerequisite_missing_skips_with_reason(suite: pytest.Pytester) -> None:
    """A test whose prerequisite is missing is skipped and the reason is shown."""
    suite.makepyfile(NEEDS_KERNEL)
    result = suite.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("*kernel: none on this machine*")


def test_prerequisite_demanded_fails(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """PERSISTIP_REQUIRE turns the skip into a failure that gives the same reason."""
    monkeypatch.setenv("PERSISTIP_REQUIRE", "kernel")
    suite.makepyfile(NEEDS_KERNEL)
    result = suite.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*PERSISTIP_REQUIRE demands kernel: none on this machine*")


def test_judge_of_nftables_is_demanded_with_the_kernel(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who demands the kernel demands nft too, so that no comparison with it fades where the rest is proved."""
    suite.makepyfile(NEEDS_KERNEL.replace("kernel", "nft"))
    suite.runpytest_subprocess().assert_outcomes(skipped=1)
    monkeypatch.setenv("PERSISTIP_REQUIRE", "kernel")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines("*PERSISTIP_REQUIRE demands nft: none on this machine*")


@pytest.mark.parametrize("where", ["environment", "mark"])
def test_prerequisite_unknown_stops_the_run(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A slip in the name of a prerequisite is an error, in the environment and in a mark."""
    if where == "environment":
        monkeypatch.setenv("PERSISTIP_REQUIRE", "kernal")
    suite.makepyfile(NEEDS_KERNEL.replace("kernel", "kernal" if where == "mark" else "kernel"))
    result = suite.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*kernal*known are kernel*")


def test_prerequisite_selects_by_name(suite: pytest.Pytester) -> None:
    """What is marked requires("kernel") is what `-m kernel` selects."""
    suite.makepyfile(NEEDS_KERNEL + '\n    def test_other():\n        """Another thing holds."""\n')
    suite.runpytest_subprocess("-m", "not kernel").assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("", "has no docstring"),
        ('"""something"""', "ends without a full stop"),
        ('"""One thing holds. Another does too."""', "more than one sentence"),
        ('"""One thing, e.g. this, holds (P1 of 10.0.0.1/32)."""', None),
    ],
)
def test_docstring_is_one_sentence(suite: pytest.Pytester, docstring: str, fault: str | None) -> None:
    """A test fails unless it says in one sentence what it proves."""
    suite.makepyfile(f"def test_something():\n    {docstring}\n    assert True\n")
    result = suite.runpytest_subprocess()
    if fault is None:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(f"*{fault}*")
