"""Does an address follow its Pod through everything that happens in a real cluster?"""

import pytest
from realcluster.scenario import Scenario
from realcluster.scenarios import SCENARIOS
from realcluster.stage import Stage

pytestmark = pytest.mark.requires("cluster")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.play.__name__)
def test_address_follows_its_pod(stage: Stage, scenario: Scenario, request: pytest.FixtureRequest) -> None:
    """In the end the API, every kernel and the wire say the same, and nothing is lost where nothing may be."""
    if scenario.is_long and not request.config.getoption("--long"):
        pytest.skip("takes long: --long")
    result = stage.play(scenario)
    print("; ".join(result.cells()))
    if scenario.is_lossless:
        assert result.lost == (0, 0)
