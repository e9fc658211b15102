"""A run's log: masked, one file per run, the oldest removed, and never the reason that something fails."""

from __future__ import annotations

import logging

import pytest

from flows.logs import FOLDER, KEEP, logged

LOGGER = logging.getLogger("maskmill")


def text_of(out) -> str:
    return "".join(path.read_text() for path in sorted((out / FOLDER).iterdir()))


def test_what_is_warned_of_is_written_without_secrets(tmp_path):
    with logged(tmp_path) as log:
        LOGGER.warning("scene: %s", "https://me:secret1@host/a?token=secret2")
        LOGGER.info("not a warning")
        log.note("a: complete")
    said = text_of(tmp_path)
    assert "WARNING scene: https://me:***@host" in said
    assert "a: complete" in said
    assert "secret" not in said
    assert "not a warning" not in said
    LOGGER.warning("after the run")
    assert "after the run" not in text_of(tmp_path)


def test_how_a_run_ended_is_said(tmp_path):
    with pytest.raises(ZeroDivisionError), logged(tmp_path):
        _ = 1 / 0
    assert "ended by ZeroDivisionError" in text_of(tmp_path)


def test_no_folder_is_made_for_a_log_and_lines_wait_for_one(tmp_path):
    out = tmp_path / "out"
    with logged(out) as log:
        log.note("early")
        assert not out.exists()
        out.mkdir()
        log.note("late")
    assert text_of(out).index("early") < text_of(out).index("late")
    with logged(tmp_path / "never"):
        pass
    assert not (tmp_path / "never").exists()


def test_the_oldest_go_and_what_is_no_log_stays(tmp_path):
    folder = tmp_path / FOLDER
    folder.mkdir()
    for day in range(1, 29):
        for month in ("01", "02"):
            (folder / f"2020-{month}-{day:02d}T0200.log").write_text("old")
    (folder / "mine.log").write_text("mine")
    with logged(tmp_path):
        pass
    logs = sorted(path.name for path in folder.iterdir() if path.name != "mine.log")
    assert len(logs) == KEEP
    assert logs[0] == "2020-01-28T0200.log"
    assert (folder / "mine.log").exists()


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with logged(tmp_path) as log:
        LOGGER.warning("lost")
        log.note("lost")
    assert (tmp_path / FOLDER).read_text() == "a file"
