"""Whether this machine's clock is synchronised: what the kernel says, and what chronyd says.

systemd-timesyncd and ntpd tell the kernel (adjtimex(2)), and timedatectl shows its answer as
NTPSynchronized. chronyd does so only with `rtcsync` in its chrony.conf; its own tracking is as good
(chronyc(1)), and where chronyd answers, that decides. That `time-sync.target` was reached, or that
a daemon runs, proves nothing.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.adapters.process import Runner

_TIMEOUT: Final = 20.0
_BY_KERNEL: Final = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
_FIELDS: Final = 14
"""Of `chronyc -c tracking` (client.c, process_cmd_tracking): reference id, its name, stratum,
reference time, offset of the system's time, …, update interval, leap status."""
_LOCAL: Final = ("7F7F0101", "4D414E55", "00000000")
"""Reference ids of a chronyd that follows its own clock (`local`), time typed by hand, or
nothing."""
_STRATA: Final = range(1, 16)
"""Of a clock that is synchronised (chronyc(1))."""
_NORMAL: Final = "Normal"
_LARGEST_OFFSET: Final = 16.0
"""Seconds that the clock may be wrong, as the kernel has it (NTP_PHASE_LIMIT)."""
_LEAST_AGE: Final = 3600.0
_MOST_AGE: Final = 86400.0
_UPDATES: Final = 4
"""How many updates may be missing before a reference that is older than that is an old one; one
of yesterday is old however seldom there are any."""


async def is_synchronised(runner: Runner) -> bool | None:
    """Return whether the clock is synchronised; None where that is unknown."""
    done = await runner.try_run(_BY_KERNEL, timeout=_TIMEOUT)
    answer = done.stdout.strip() if done is not None and done.returncode == 0 else ""
    by_kernel = {"yes": True, "no": False}.get(answer)
    tracking = await runner.try_run(("chronyc", "-c", "tracking"), timeout=_TIMEOUT)
    if tracking is None or (tracking.returncode != 0 and not tracking.timed_out):
        return by_kernel  # no chronyd
    # The kernel's flag outlives the reference that chronyd once had.
    by_chronyd = _is_tracking(tracking.stdout, time.time())
    return (by_kernel or None) if by_chronyd is None else by_chronyd


def _is_tracking(text: str, now: float) -> bool | None:
    """Return whether chronyd follows a reference, recently; None if it does not say."""
    fields = text.strip().split(",")
    if len(fields) != _FIELDS or len(text.strip().splitlines()) != 1:
        return None
    try:
        stratum = int(fields[2])
        reference, offset, interval = (float(fields[index]) for index in (3, 4, 12))
    except ValueError:
        return None
    if not all(map(math.isfinite, (reference, offset, interval))):
        return None
    age = now - reference
    return (
        fields[0].upper() not in _LOCAL
        and stratum in _STRATA
        and fields[13] == _NORMAL
        and abs(offset) <= _LARGEST_OFFSET
        and -_LARGEST_OFFSET <= age <= min(max(_LEAST_AGE, _UPDATES * interval), _MOST_AGE)
    )
