"""What has to be seen when a server starts is logged, or else printed."""

from __future__ import annotations

import logging

import pytest

from learning_observer_kvs.problems import announce


def test_a_line_is_printed_where_no_handler_would_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), 'handlers', [])
    announce('a line')
    assert capsys.readouterr() == ('', 'a line\n')


def test_a_line_is_only_logged_where_the_program_has_configured_its_logging(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    announce('a line')
    assert caplog.messages == ['a line']
    assert capsys.readouterr() == ('', '')
    caplog.set_level(logging.WARNING)
    announce('another')
    assert caplog.messages == ['a line']
    assert capsys.readouterr() == ('', '')
