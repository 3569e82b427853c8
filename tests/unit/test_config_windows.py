from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from agent.config.load import load_settings
from agent.config.policy import policy_of
from agent.domain.errors import ConfigError

HYDRA = '[hydra]\ninstance = "https://h"\nproject = "p"\njobset = "j"\n'


def settings(tmp_path, text):
    file = tmp_path / "config.toml"
    file.write_text(HYDRA + text)
    return load_settings(file)


def problems(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text)
    return caught.value.problems


@pytest.mark.parametrize("section", ["reboot", "upgrade"])
def test_windows_arrive_as_they_are_written(tmp_path, section):
    text = f"""
        [{section}]
        splay = "30m"
        margin = "20m"
        [[{section}.windows]]
        days = ["sat", "sun"]
        start = "23:30"
        length = "4h"
        time_zone = "Europe/Berlin"
        [[{section}.windows]]
        start = "02:00"
        length = "1h"
    """
    policy = policy_of(settings(tmp_path, text))
    schedule = policy.reboot.schedule if section == "reboot" else policy.upgrade_schedule
    weekend, daily = schedule.windows
    assert (weekend.days, weekend.start) == ({5, 6}, time(23, 30))
    assert (weekend.length, weekend.zone) == (timedelta(hours=4), ZoneInfo("Europe/Berlin"))
    assert (daily.days, daily.zone) == (set(range(7)), UTC)
    assert (schedule.splay, schedule.margin) == (timedelta(minutes=30), timedelta(minutes=20))


def test_without_windows_it_is_always_open(tmp_path):
    policy = policy_of(settings(tmp_path, ""))
    assert policy.reboot.schedule.is_open(datetime(2026, 11, 21, tzinfo=UTC), "h")


@pytest.mark.parametrize(
    ("window", "key", "told"),
    [
        ('start = "4:00"\nlength = "2h"', "start", "time of day such as '04:00'"),
        ('start = "24:00"\nlength = "2h"', "start", "time of day"),
        ('start = "04:00"\nlength = "8d"', "length", "at most 7 days long"),
        ('start = "04:00"\nlength = "2h"\ndays = []', "days", "needs a day"),
        ('start = "04:00"\nlength = "2h"\ndays = ["monday"]', "days[0]", "'mon', 'tue'"),
        (
            'start = "04:00"\nlength = "2h"\ntime_zone = "Mars/Olympus"',
            "time_zone",
            "not a time zone",
        ),
        ('start = "04:00"\nlength = "2h"\ntime_zone = "../passwd"', "time_zone", "not a time zone"),
    ],
)
def test_a_window_that_cannot_be_is_told_with_its_key(tmp_path, window, key, told):
    ((where, what),) = problems(tmp_path, f"[[reboot.windows]]\n{window}\n")
    assert where == f"reboot.windows[0].{key}"
    assert told in what


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('splay = "1h"\nmargin = "1h"\nwindows = [{start = "04:00", length = "2h"}]', "margin"),
        ('windows = [{start = "04:00", length = "15m"}]', "margin"),
        (
            'user_notice = "20m"\nmargin = "20m"\nwindows = [{start = "04:00", length = "2h"}]',
            "user_notice",
        ),
    ],
)
def test_a_reboot_that_no_window_has_room_for_is_told(tmp_path, text, key):
    ((where, _),) = problems(tmp_path, f"[reboot]\n{text}\n")
    assert where == f"reboot.{key}"
