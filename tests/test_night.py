"""When a run's time is over: an instant, right over changes of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.document import load_job
from pipeline.errors import SettingsError
from pipeline.night import Night, next_time

ZONES = ["Europe/Vienna", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
CLOCKS = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # `timezones`
JOB = {"scenes": ["a.tif"], "model": "m", "out": "out"}


@given(CLOCKS, st.sampled_from(ZONES), INSTANTS)
def test_the_next_time_is_the_first_at_which_the_clock_shows_it(clock, zone, now):
    zone = ZoneInfo(zone)
    then = next_time(clock, zone, now)
    assert timedelta() < then - now <= timedelta(hours=25)
    shown = then.astimezone(zone)
    if f"{shown:%H:%M}" == clock:
        before = (now + timedelta(minutes=more) for more in range(1, int((then - now).total_seconds() // 60)))
        assert not any(f"{instant.astimezone(zone):%H:%M}" == clock for instant in before)
    else:  # a time that was left out that day
        assert shown.utcoffset() != (then - timedelta(hours=3)).astimezone(zone).utcoffset()


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-03-28T22:00:00", "2026-03-29T04:00:00"),  # summer time begins: one hour less
        ("2026-10-24T22:00:00", "2026-10-25T05:00:00"),  # it ends: one more
        ("2026-06-01T04:00:00", "2026-06-02T04:00:00"),  # it is six o'clock now
    ],
)
def test_a_night_ends_at_six_by_the_clock_of_its_zone(now, end):
    night = Night(stop_at="06:00", timezone="Europe/Vienna").begun(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert night.until == datetime.fromisoformat(end).replace(tzinfo=UTC)


@given(INSTANTS, st.floats(0.01, 30), CLOCKS)
def test_a_night_ends_at_the_first_of_its_ends_and_keeps_that(now, hours, clock):
    night = Night(stop_at=clock, max_hours=hours).begun(now)
    assert night.until == min(now + timedelta(hours=hours), next_time(clock, ZoneInfo("UTC"), now))
    assert night.begun(now + timedelta(days=3)) == night
    assert Night.model_validate(night.model_dump(mode="json")) == night
    assert Night().begun(now).until is None


@pytest.mark.parametrize("said", ["6:00", '"06:00"', "06:00"])
def test_a_time_of_day_is_said_with_or_without_quotes(tmp_path, said):
    (tmp_path / "job.yaml").write_text(f"scenes: [a.tif]\nmodel: m\nout: out\nstop_at: {said}\n")
    job = load_job(tmp_path / "job.yaml", {})
    assert job.begun(datetime(2026, 1, 1, tzinfo=UTC)).until == datetime(2026, 1, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"stop_at": "25:00"}, "25:00"),
        ({"stop_at": 9999}, "stop_at"),
        ({"timezone": "Vienna"}, "Europe/Vienna"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"max_hours": 0}, "max_hours"),
        ({"max_scenes": 0}, "max_scenes"),
        ({"max_megapixels": -1}, "max_megapixels"),
        ({"reprocess": "some"}, "reprocess"),
        ({"since": "then"}, "since"),
        ({"until": "2026-01-01T00:00:00"}, "until"),
    ],
)
def test_what_cannot_be_a_night_is_refused_in_a_sentence(said, told):
    with pytest.raises(SettingsError, match=told):
        load_job(None, JOB | said)
