"""A value with a few fields changed."""

import attrs
import pytest

from persistip.model.evolving import evolve
from persistip.model.keys import ObjectMeta
from persistip.model.views import GatewayFacts

META = ObjectMeta(name="a", namespace="b", resource_version="7", labels={"app": "nat"})


def test_evolved_value_is_what_attrs_makes_of_it() -> None:
    """The fields named change, all others stay, those that equality does not look at included."""
    changed = evolve(META, name="c")
    assert (changed, changed.resource_version) == (attrs.evolve(META, name="c"), "7")
    assert META.name == "a"


def test_field_that_no_initialiser_takes_is_made_anew() -> None:
    """What a class derives for itself is not carried over to a value of which it may not be true."""
    facts = GatewayFacts(gateway=object())  # type: ignore[arg-type]
    facts.derived["pool"] = "of the old one"
    assert evolve(facts, rivals=(facts,)).derived == {}


def test_field_that_a_class_lacks_is_refused() -> None:
    """A misspelt name is no silent no-op."""
    with pytest.raises(TypeError, match="nmae"):
        evolve(META, nmae="c")  # type: ignore[call-arg]
