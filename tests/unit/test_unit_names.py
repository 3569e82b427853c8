from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.unit_names import CONFIRM_UNIT

MODULE = Path(__file__).parents[2] / "nix/module/units.nix"


@pytest.mark.checkout
def test_the_confirm_unit_is_called_as_the_module_calls_it():
    name = CONFIRM_UNIT.removesuffix(".service")
    assert f"systemd.services.{name} = " in MODULE.read_text()
