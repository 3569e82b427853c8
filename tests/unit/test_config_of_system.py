from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent.config.load import load_settings
from agent.config.of_system import SystemSettings
from agent.config.policy import confirm_policy_of
from agent.domain.check import UnitCheck
from agent.domain.policy import OnFailure
from agent.domain.store_path import StorePath
from agent.domain.unit_names import CONFIRM_UNIT

if TYPE_CHECKING:
    from pathlib import Path

HYDRA = '[hydra]\ninstance = "https://hydra.example.org"\nproject = "p"\njobset = "j"\n'
OWN = """\
[confirm]
settle = "40s"
ignore_units = ["own.service"]
[[confirm.checks]]
type = "unit"
unit = "own.service"
[health]
canary_hosts = ["gone.example", "stays.example", "https://gone.example/"]
"""
UNITS = "etc/systemd/system"


class TargetContext:
    """An agent's own settings, and a system that brings others."""

    def __init__(self, directory: Path):
        self.file = directory / "own.toml"
        self.file.write_text(HYDRA + OWN)
        self.toplevel = directory / "system"

    def write(self, text: str, place: str = "etc/nixos-hydra-agent/config.toml") -> None:
        file = self.toplevel / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def settings(self, *canaries: str):
        return load_settings(self.file, canaries=canaries)

    def read(self, *canaries: str) -> SystemSettings:
        return SystemSettings(self.settings(*canaries), self.file, UNITS)

    def confirm(self):
        return self.read().confirm_of(StorePath(str(self.toplevel)))

    def dropped(self, *canaries: str):
        return self.read(*canaries).dropped_canaries(StorePath(str(self.toplevel)))

    @property
    def own(self):
        return confirm_policy_of(self.settings().confirm)


@pytest.fixture
def site(tmp_path):
    return TargetContext(tmp_path)


# How a system wants to be confirmed


def test_a_system_brings_its_own_settings_of_the_confirmation(site):
    site.write(
        HYDRA + '[confirm]\nsettle = "50s"\ndeadline = "20m"\nignore_units = ["a.service"]\n'
        'on_failure = "hold"\nhydra = false\n'
        '[[confirm.checks]]\ntype = "unit"\nunit = "a.service"\ntimeout = "15m"\n'
    )
    found = site.confirm()
    assert (found.settle, found.deadline) == (timedelta(seconds=50), timedelta(minutes=20))
    assert (found.ignored_units, found.on_failure) == (("a.service",), OnFailure.HOLD)
    assert found.asks_hydra is False
    assert found.checks == (UnitCheck("a.service", "a.service", timedelta(minutes=15)),)


def test_what_a_system_does_not_say_is_as_it_is_by_default(site):
    site.write(HYDRA)
    found = site.confirm()
    assert (found.settle, found.checks) == (timedelta(seconds=30), ())


@pytest.mark.parametrize("kind", ["pipe", "directory", "loop", "device"])
def test_what_is_no_file_says_nothing_and_keeps_nobody_waiting(site, kind):
    site.write("")
    file = site.toplevel / "etc/nixos-hydra-agent/config.toml"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else file)
    assert site.read().confirm_of(StorePath(str(site.toplevel))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not = TOML = at all",
        "confirm = 3",
        "[[confirm]]\nsettle = 3",
        "x" * (1 << 20) + "\n",
        "number = 1" + "0" * 5000,
    ],
)
def test_where_nothing_can_be_read_nothing_is_said(site, text):
    if text:
        site.write(text)
    assert site.confirm() is None


def test_no_file_or_what_is_no_text_says_nothing(site):
    assert site.confirm() is None
    site.write("")
    (site.toplevel / "etc/nixos-hydra-agent/config.toml").write_bytes(b"\xff\xfe")
    assert site.confirm() is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("deadline", '"soon"'),
        ("checks", '[{ type = "quantum", host = "a.example" }]'),
        ("ignore_units", "7"),
        ("on_failure", '"despair"'),
        ("settle", '{ base = "30s" }'),
    ],
)
def test_of_a_key_that_is_not_understood_the_agents_own_value_counts(site, key, value):
    site.write(f'[confirm]\nhydra = false\nfuture = "x"\n{key} = {value}\n')
    found = site.confirm()
    assert found.asks_hydra is False
    names = {"ignore_units": "ignored_units"}
    assert getattr(found, names.get(key, key)) == getattr(site.own, names.get(key, key))


def test_the_rest_of_the_file_need_not_be_understood(site):
    site.write('future = true\n[hydra]\nweird = 1\n[confirm]\nignore_units = ["a.service"]\n')
    assert site.confirm().ignored_units == ("a.service",)


def test_values_that_do_not_go_together_with_the_agents_own_are_not_half_taken(site):
    site.file.write_text(HYDRA + '[confirm]\npatience = "11m"\n')
    site.write('[confirm]\npatience = "never"\ndeadline = "20m"\n')
    assert site.confirm() is None


def test_what_the_environment_sets_is_set_for_every_system(site, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_CONFIRM__SETTLE", "7s")
    site.write('[confirm]\nsettle = "50s"\nignore_units = ["a.service"]\n')
    found = site.confirm()
    assert (found.settle, found.ignored_units) == (timedelta(seconds=7), ("a.service",))


def test_a_table_of_the_environment_is_set_for_every_system(site, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_CONFIRM", '{"settle": "7s"}')
    site.write('[confirm]\nignore_units = ["a.service"]\n')
    assert site.confirm() == site.own


@pytest.mark.parametrize("form", ["--config {}", "--config={}", '--config "{}"'])
@pytest.mark.parametrize("is_in_etc", [True, False])
def test_a_file_that_the_confirm_unit_names_is_read(site, tmp_path, form, is_in_etc):
    other = tmp_path / "other.toml"
    other.write_text('[confirm]\nignore_units = ["other.service"]\n')
    site.write('[confirm]\nignore_units = ["other.service"]\n', "etc/agent/mine.toml")
    site.write('[confirm]\nignore_units = ["usual.service"]\n')
    named = form.format("/etc/agent/mine.toml" if is_in_etc else other)
    site.write(f"[Service]\nExecStart=/agent confirm {named}\n", f"{UNITS}/{CONFIRM_UNIT}")
    assert site.confirm().ignored_units == ("other.service",)


def test_a_confirm_unit_that_names_none_reads_the_usual_one(site):
    site.write('[confirm]\nignore_units = ["usual.service"]\n')
    site.write("[Service]\nExecStart=/agent confirm\n", f"{UNITS}/{CONFIRM_UNIT}")
    assert site.confirm().ignored_units == ("usual.service",)


# Canaries that it names no more


def test_canaries_that_a_system_does_not_name_are_dropped(site):
    site.write('[health]\ncanary_hosts = ["stays.example", "new.example"]\n')
    assert site.dropped() == {"gone.example", "https://gone.example/"}


def test_a_system_without_canaries_drops_all(site):
    site.write(HYDRA)
    assert len(site.dropped()) == 3


def test_a_canary_that_is_written_out_as_a_check_by_now_is_not_dropped(site):
    site.write(
        '[health]\ncanary_hosts = ["stays.example"]\n'
        '[[health.checks]]\ntype = "icmp"\nhost = "gone.example"\n'
        '[[health.checks]]\ntype = "quantum"\nurl = "https://gone.example/"\n'
    )
    assert site.dropped() == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "no TOML",
        "health = 3",
        "[health]\ncanary_hosts = 7",
        "[health]\ncanary_hosts = [{ host = 1 }]",
        "[health]\nchecks = 7",
        "[health]\nchecks = [7]",
    ],
)
def test_where_it_is_not_clear_none_is_dropped(site, text):
    site.write(text + "\n")
    assert site.dropped() == frozenset()


def test_a_canary_that_the_agents_own_checks_are_about_is_not_dropped(site):
    site.file.write_text(
        site.file.read_text() + 'checks = [{ type = "icmp", host = "gone.example" }]'
    )
    site.write(HYDRA)
    assert "gone.example" not in site.dropped()


def test_a_canary_that_a_person_asks_for_is_not_dropped(site):
    site.write('[health]\ncanary_hosts = ["stays.example"]\n')
    assert site.dropped("gone.example", "by-hand.example") == {"https://gone.example/"}


def test_canaries_of_the_environment_are_not_dropped(site, monkeypatch):
    monkeypatch.setenv("NIXOS_HYDRA_AGENT_HEALTH__CANARY_HOSTS", '["gone.example"]')
    site.write(HYDRA)
    assert site.dropped() == frozenset()


def test_where_the_agents_own_file_cannot_be_read_none_is_dropped(site):
    site.write(HYDRA)
    read = site.read()
    site.file.unlink()
    assert read.dropped_canaries(StorePath(str(site.toplevel))) == frozenset()
