"""Everything at once, at random: whatever happens to a run, it ends, and at the end there are the same bytes."""

from __future__ import annotations

import pytest

from tests.chaos.disturb import disturb
from tests.chaos.world import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos")
    make_world(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_disturbed_at_random_makes_the_same_bytes(world, seed):
    assert disturb(world, seed).total() > 0
