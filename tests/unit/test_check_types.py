"""The registry of check types: a folder is all that a type needs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from agent.checks.check_type import CheckSection
from agent.checks.registry import check_of, check_sections, load_probe

SETTINGS = '''
"""Is it so early?"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.fields.values import Duration


@dataclass(frozen=True)
class EarlyCheck:
    name: str
    hour: int
    timeout: timedelta
    is_wanted: bool = False
    type = "early"

    @property
    def target(self):
        return f"before {self.hour}"


class EarlyCheckSection(CheckSection):
    """Is it before an hour of the day?"""

    type: Literal["early"]
    """`early`."""
    hour: int
    """The hour."""
    name: str = ""
    """Name in reports; by default the hour."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit."""

    def check(self, name):
        return EarlyCheck(name, self.hour, self.timeout)


SECTION = EarlyCheckSection
ORDER = 70
'''
PROBE = """
from agent.checks.check_type import Probe, Room
from agent.domain.check import CheckResult


class EarlyProbe(Probe):
    room = Room.PROGRAMS

    async def probe(self, check):
        return CheckResult(check, is_well=check.hour > 4)


PROBE = EarlyProbe
"""
USE = """
import asyncio, json, sys
from agent import checks
checks.__path__.append(sys.argv[1])
from agent.checks.prober import Probes
from agent.config.policy import checks_of
from agent.config.settings import Settings
from agent.config.show import schema
table = {"type": "early", "hour": 5}
hydra = {"instance": "https://hydra.example", "project": "p", "jobset": "j", "job": "b"}
settings = Settings.model_validate({"hydra": hydra, "health": {"checks": [table]}})
(check,) = checks_of(settings.health)

async def main():
    is_loaded_late = "agent.checks.early.probe" not in sys.modules
    async with Probes() as prober, prober.room_for(check):
        return is_loaded_late and (await prober.probe(check)).is_well

found = json.loads(schema())["$defs"]["EarlyCheckSection"]
print(json.dumps([check.name, asyncio.run(main()), found["description"]]))
"""


def test_a_folder_has_settings_a_schema_and_a_probe(tmp_path):
    early = tmp_path / "early"
    early.mkdir()
    (early / "__init__.py").write_text(SETTINGS)
    (early / "probe.py").write_text(PROBE)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == ["before 5", True, "Is it before an hour of the day?"]


def test_types_are_in_the_order_that_they_state():
    assert list(check_sections()) == ["icmp", "http", "tcp", "dns", "unit", "command"]


@pytest.mark.parametrize("kind", check_sections())
def test_a_type_has_the_name_of_its_folder(kind):
    section = check_sections()[kind]
    assert issubclass(section, CheckSection)
    assert section.model_fields["type"].annotation.__args__ == (kind,)
    assert load_probe(kind).room.value > 0


def test_a_check_without_a_name_has_that_of_its_target():
    section = check_sections()["tcp"]
    table = {"type": "tcp", "host": "a.example", "port": 22}
    assert check_of(section.model_validate(table)).name == "a.example:22"
    assert check_of(section.model_validate({**table, "name": "ssh"})).name == "ssh"


def test_a_probe_need_not_prepare_or_close_anything():
    probe = load_probe("unit")
    probe.prepare(None)
    asyncio.run(probe.close())
