"""Logs: one line each, named after the process, and no values of local variables in a traceback."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from shared.logs import configure_logs
from shared.settings import Settings


@pytest.fixture(autouse=True)
def logging_as_before():
    root, level, handlers = logging.getLogger(), logging.getLogger().level, logging.getLogger().handlers[:]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail():
    password = "hush"
    raise ZeroDivisionError(len(password))


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(capsys, form):
    configure_logs(Settings(_env_file=None, log_format=form), "api")
    for log in (structlog.get_logger(), logging.getLogger("some.library")):
        try:
            fail()
        except ZeroDivisionError:
            log.exception("it failed")
    told = capsys.readouterr().err
    assert told.count("it failed") == 2
    assert "ZeroDivisionError" in told
    assert "test_logs.py" in told
    assert "hush" not in told


def test_json_lines(capsys):
    configure_logs(Settings(_env_file=None, log_format="json", log_level="warning"), "worker")
    structlog.get_logger().info("not shown")
    structlog.get_logger().warning("shown", season_id="s")
    logging.getLogger("redis").warning("shown %s", "too")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["process"], line["level"]) for line in lines] == [
        ("shown", "worker", "warning"),
        ("shown too", "worker", "warning"),
    ]
    assert lines[0]["season_id"] == "s"
