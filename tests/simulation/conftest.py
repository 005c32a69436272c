"""Options of the simulation: more seeds, or one again."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seeds and --seed."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=None, help="run this many seeds, however long it takes")
    group.addoption("--seed", type=int, default=None, help="run this seed alone, and print its trace")
