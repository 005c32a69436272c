"""Options of the simulation: more seeds, or one again."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seeds, --first-seed and --seed."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=None, help="run this many seeds, however long it takes")
    group.addoption("--first-seed", type=int, default=0, help="begin with this seed: goes on where a run was ended")
    group.addoption("--seed", type=int, default=None, help="run this seed alone, and print its trace")
