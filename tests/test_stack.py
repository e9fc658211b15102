import os
import tempfile
from pathlib import Path

import pytest

from tests.stack.morning import demand
from tests.stack.night import spend_a_night
from tests.stack.postgres import MISSING, installed


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not installed(), reason=MISSING)
def test_a_night_of_all_services_goes_by_its_schedule_and_survives_a_worker():
    with tempfile.TemporaryDirectory(prefix="maskmill-stack-") as folder:  # tmp_path lies where only one user may enter
        demand(spend_a_night(Path(folder), lambda text: os.write(1, f"{text}\n".encode())))
