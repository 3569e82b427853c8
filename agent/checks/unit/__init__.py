"""The unit check: is a systemd unit active?"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, StrictBool
from typing_extensions import override

from agent.checks.check_type import DEFAULT_TIMEOUT, CheckSection
from agent.domain.check import UnitCheck
from agent.fields.values import Duration, parse_unit


class UnitCheckSection(CheckSection):
    """Is a unit active, or has a timer's job succeeded? A unit that is still starting is not."""

    type: Literal["unit"]
    """`unit`."""
    unit: Annotated[str, AfterValidator(parse_unit)]
    """The unit's full name, such as `nginx.service`."""
    name: str = ""
    """Name in reports; by default the unit."""
    timeout: Duration = DEFAULT_TIMEOUT
    """Time limit of the whole check."""
    wanted: StrictBool = False
    """Whether it is only wanted: its failure is reported but has no effect."""

    @override
    def check(self, name: str) -> UnitCheck:
        return UnitCheck(name, self.unit, self.timeout, self.wanted)


SECTION: Final = UnitCheckSection
ORDER: Final = 50
