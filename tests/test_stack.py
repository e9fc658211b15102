import os

import pytest

from tests.stack.morning import demand
from tests.stack.night import spend_a_night
from tests.stack.postgres import MISSING, installed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not installed(), reason=MISSING)
def test_a_night_of_all_services_goes_by_its_schedule_and_survives_a_worker(tmp_path):
    demand(spend_a_night(tmp_path, lambda text: os.write(1, f"{text}\n".encode())))
