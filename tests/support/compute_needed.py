"""
Are Google's packages here?

To import this is to need them: a test module without them is skipped with the reason, or fails to be collected where
PERSISTIP_REQUIRE names gce.
"""

import os

import pytest

REASON = "gce: a package is missing ({error}); `nox -s gce` has all of them"

try:
    import google.cloud.compute_v1  # noqa: F401
    import googleapiclient  # noqa: F401
    import jsonschema  # noqa: F401
except ImportError as error:
    if "gce" in os.environ.get("PERSISTIP_REQUIRE", "").split(","):
        raise
    pytest.skip(REASON.format(error=error), allow_module_level=True)
