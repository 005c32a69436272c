"""Is the image described once: one list, one place for each setting, and do the manifests ask for what is in it?"""

import re
from importlib.metadata import version

import pytest
from built_image import ABSENT, CONTAINERFILE, CONTENTS, ROOT, USER, builder, containers
from packaging.requirements import Requirement

from persistip.manifests import Parameters


def pins(group: str) -> dict[str, str]:
    """Return what requirements/ pins for *group*."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text()
    lines = (Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"[\w.-]+==", line))
    return {each.name: str(each.specifier) for each in lines}


def test_containerfile_copies_what_the_builder_collected() -> None:
    """The last stage begins with nothing and takes the very folder that build.py has filled from contents.toml."""
    collected = re.search(r"python \S+/image/build\.py --root (\S+)", CONTAINERFILE)
    assert collected is not None
    last = CONTAINERFILE[CONTAINERFILE.rindex("\nFROM ") :].split("\n")
    assert last[1] == "FROM scratch"
    assert [line for line in last if line.startswith("COPY")] == [f"COPY --from=build {collected[1]} /"]


def test_settings_of_the_archive_are_those_of_the_containerfile() -> None:
    """User, path and command of an image that was built without an engine are read from the Containerfile."""
    config = builder().last_stage(CONTAINERFILE)
    assert config == {
        "Env": [f"PATH=/{CONTENTS['programs']['folder']}"],
        "User": f"{USER}:{USER}",
        "Cmd": ["persistip", "--help"],
    }


def test_settings_that_the_builder_does_not_know_stop_it() -> None:
    """A last stage that says more than build.py can follow is refused, so that the two never differ unseen."""
    with pytest.raises(SystemExit, match="VOLUME"):
        builder().last_stage(CONTAINERFILE + "VOLUME /data\n")


def test_manifests_start_programs_of_the_image() -> None:
    """Every shipped workload runs a program that contents.toml lists, as the user that the image has for it."""
    found = containers()
    assert {name: each["command"] for name, each in found.items()} == {
        "controller": ["persistip-controller"],
        "agent": ["persistip-agent"],
    }
    assert {each["command"][0] for each in found.values()} <= set(CONTENTS["programs"]["names"])
    controller, agent = (found[name]["securityContext"] for name in ("controller", "agent"))
    assert (controller["runAsNonRoot"], controller["runAsUser"], agent["runAsUser"]) == (True, USER, 0)
    assert all(each["securityContext"]["readOnlyRootFilesystem"] for each in found.values())


def test_pins_of_the_image_are_those_that_are_tested() -> None:
    """The image holds each package in the version with which the tests run, and no client that reads kubeconfigs."""
    image, tests = pins("image"), pins("tests")
    assert {"aiohttp", "msgspec", "prometheus-client"} <= image.keys()
    assert not ABSENT & image.keys()
    assert {name: tests.get(name) for name in image} == image


def test_image_without_a_tag_has_the_name_in_the_manifests() -> None:
    """Built without a tag the image is called what the manifests of this version ask for, which is never `latest`."""
    assert builder().default_tag() == Parameters().image
    assert Parameters().image.removeprefix("persistip:") == version("persistip")
