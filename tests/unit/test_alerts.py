"""Does each alert fire when it should, and stay silent when all is well?"""

import subprocess
from pathlib import Path

import attrs
import pytest
import yaml

ALERTS = Path(__file__).parents[2] / "docs" / "monitoring" / "alerts.yaml"
LEADING = {'persistip_leading{instance="a"}': "1x40"}


@attrs.frozen(kw_only=True)
class Case:
    """Series in which an alert fires after half an hour, and others of the same names in which it does not."""

    bad: dict[str, str]
    good: dict[str, str]
    labels: dict[str, str]
    summary: str


CASES = {
    "PersistipNobodyLeads": Case(
        bad={'persistip_leading{instance="a"}': "1x4 0x40"},
        good=LEADING,
        labels={"severity": "critical"},
        summary="No controller of persistip leads; addresses stay where they are, whatever happens to their Pods.",
    ),
    "PersistipAddressWithoutPod": Case(
        bad=LEADING | {'persistip_oldest_outage_timestamp_seconds{instance="a"}': "0x20 1200x20"},
        # A standby's memory counts for nothing, nor does an outage that has just begun.
        good=LEADING
        | {'persistip_leading{instance="b"}': "0x40"}
        | {'persistip_oldest_outage_timestamp_seconds{instance="b"}': "1x40"}
        | {'persistip_oldest_outage_timestamp_seconds{instance="a"}': "0x28 1740x20"},
        labels={"severity": "critical"},
        summary="The addresses of a route have had no Pod that holds them for 10m 0s.",
    ),
    "PersistipSlowMoves": Case(
        bad={
            'persistip_move_outage_seconds_count{cause="NodeLost"}': "0x20 1x20",
            'persistip_move_outage_seconds_bucket{cause="NodeLost",le="10.0"}': "0x40",
        },
        good={
            'persistip_move_outage_seconds_count{cause="NotReady"}': "0x20 1x20",
            'persistip_move_outage_seconds_bucket{cause="NotReady",le="10.0"}': "0x20 1x20",
        },
        labels={"severity": "warning", "cause": "NodeLost"},
        summary="Addresses were without a Pod for more than ten seconds, for the cause NodeLost.",
    ),
    "PersistipNotSynced": Case(
        bad={'persistip_cluster_synced{instance="a"}': "1x3 0x40"},
        good={'persistip_cluster_synced{instance="a"}': "1x27 0x1 1x9"},
        labels={"severity": "warning", "instance": "a"},
        summary="a does not hear of changes in the cluster.",
    ),
    "PersistipWritesRefused": Case(
        bad={'persistip_api_actions_total{action="ReportRoute",outcome="blocked"}': "0+1x40"},
        good={'persistip_api_actions_total{action="ReportRoute",outcome="stale"}': "0+1x40"},
        labels={"severity": "warning", "action": "ReportRoute"},
        summary="The API server refuses ReportRoute.",
    ),
    "PersistipQueueStuck": Case(
        bad=LEADING | {'persistip_queue_depth{instance="a"}': "3x40"},
        good=LEADING | {'persistip_queue_depth{instance="a"}': "3 0 3 0 3 0 3 0x40"},
        labels={"severity": "warning", "instance": "a"},
        summary="3 objects wait, and have not been fewer than one for five minutes.",
    ),
    "PersistipDoesNotSettle": Case(
        bad={'persistip_held_back_total{kind="GKEIPRoute"}': "0+2x40"},
        good={'persistip_held_back_total{kind="GKEIPRoute"}': "7x40"},
        labels={"severity": "warning", "kind": "GKEIPRoute"},
        summary="A GKEIPRoute is written again and again; another writer may be undoing what persistip writes.",
    ),
    "PersistipUnreadableObjects": Case(
        # It was so before the first scrape, and lasts.
        bad={'persistip_unread_objects{instance="a",kind="Gateway"}': "2x40"},
        good={'persistip_unread_objects{instance="a",kind="Gateway"}': "2x20 0x20"},
        labels={"severity": "warning", "kind": "Gateway"},
        summary="2 objects of the kind Gateway cannot be read, and are left out.",
    ),
    "PersistipFault": Case(
        bad={'persistip_agent_passes_total{result="fault"}': "0x25 1x20"},
        good={'persistip_passes_total{result="done"}': "0+1x40"},
        labels={"severity": "warning"},
        summary="persistip met a fault of its own; what it concerns comes again later.",
    ),
    "PersistipNotProgrammed": Case(
        bad={'persistip_agent_unfinished_actions{instance="n"}': "0x9 1x40"},
        good={'persistip_agent_unfinished_actions{instance="n"}': "1 0 1 0 1 0x40"},
        labels={"severity": "critical", "instance": "n"},
        summary="n cannot put into its kernel what its addresses need.",
    ),
    "PersistipForeignObstacle": Case(
        bad={'persistip_agent_foreign_obstacles{instance="n"}': "1x40"},
        good={'persistip_agent_foreign_obstacles{instance="n"}': "0x40"},
        labels={"severity": "critical", "instance": "n"},
        summary="Something foreign on n keeps packets from an address.",
    ),
    "PersistipKernelUnseen": Case(
        bad={'persistip_agent_pass_seconds_count{instance="n"}': "0+1x10 10x40"},
        good={'persistip_agent_pass_seconds_count{instance="n"}': "0+1x40"},
        labels={"severity": "critical", "instance": "n"},
        summary="The agent at n has not gone over its node for five minutes.",
    ),
    "PersistipNotAnnounced": Case(
        bad={'persistip_agent_announcement_failures_total{instance="n"}': "0+1x40"},
        good={'persistip_agent_announcement_failures_total{instance="n"}': "4x40"},
        labels={"severity": "warning", "instance": "n"},
        summary="n cannot tell its neighbours where an address is.",
    ),
    "PersistipDoesNotAnswer": Case(
        bad={'up{instance="n",job="persistip"}': "1x9 0x40"},
        good={'up{instance="n",job="persistip"}': "1x40", 'up{instance="n",job="another"}': "0x40"},
        labels={"severity": "warning", "instance": "n", "job": "persistip"},
        summary="n has not answered for two minutes; what its node has been told stays in the kernel.",
    ),
}


def test_every_alert_has_its_case() -> None:
    """None is without series in which it fires."""
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    assert {each["alert"] for each in group["rules"]} == CASES.keys()


@pytest.mark.requires("promtool")
@pytest.mark.parametrize("name", CASES)
def test_alert_fires_when_it_should_and_not_before(name: str, tmp_path: Path) -> None:
    """It fires on what it is for, in these words, and is silent on what looks alike and is well."""
    case = CASES[name]
    fires = [{"exp_labels": case.labels, "exp_annotations": {"summary": case.summary}}]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": each, "values": values} for each, values in series.items()],
            "alert_rule_test": [{"eval_time": "30m", "alertname": name, "exp_alerts": expected}],
        }
        for series, expected in ((case.bad, fires), (case.good, []))
    ]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
