"""The tiers that this processor has; without native code these tests are skipped, but never in CI."""

import os

import pytest
from decoders import tiers_of_this_processor

from glassgpt.native import compiled


@pytest.fixture(autouse=True)
def needs_native_code():
    if compiled.tier() is None:
        assert os.environ.get("CI") != "true", "CI has a compiler, so the native code must be there"
        pytest.skip("the native code was not compiled here (no C++ compiler)")


@pytest.fixture(params=tiers_of_this_processor())
def tier(request, monkeypatch):
    """Each tier in turn, for what is made in the test."""
    monkeypatch.setenv("GLASSGPT_NATIVE_TIER", request.param)
    return request.param
