"""What killed test runs left is found and taken away, and what living ones use is not."""

import subprocess
import sys
from pathlib import Path

from owned_folder import OwnedFolder

_OWNER = """
import os, sys
from pathlib import Path
from owned_folder import OwnedFolder
folder = OwnedFolder("made-", root=Path(sys.argv[1]))
(folder.path / "file").write_text("kept")
print(folder.path.name, flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def test_owner_is_killed_folder_goes_with_the_next(tmp_path: Path) -> None:
    """A folder stays while its owner lives, and goes with all that bears its name once that is dead."""
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", _OWNER, str(tmp_path)]
    forgotten: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(support)}
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        beside = OwnedFolder("made-", forget=forgotten.append, root=tmp_path)
        assert (tmp_path / name / "file").read_text() == "kept"
        assert forgotten == []
        owner.stdin.close()
        owner.wait()
    third = OwnedFolder("made-", forget=forgotten.append, root=tmp_path)
    assert forgotten == [name]
    assert {each.name for each in tmp_path.iterdir()} == {beside.path.name, third.path.name}
    beside.remove()
    third.remove()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_another_name_is_left_alone(tmp_path: Path) -> None:
    """A folder that has no sign of an owner may be anybody's."""
    (tmp_path / "made-by-hand").mkdir()
    folder = OwnedFolder("made-", root=tmp_path)
    folder.remove()
    folder.remove()
    assert [each.name for each in tmp_path.iterdir()] == ["made-by-hand"]
