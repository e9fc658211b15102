"""The README's tables of what runs are what runs."""

import pytest

from tests.what_runs import README, written


@pytest.mark.slow
def test_the_readmes_tables_are_found_again_by_running_everything_in_them():
    readme = README.read_text(encoding="utf-8")
    assert readme == written(readme)
