"""The command line on a machine where each module and each file of certificates takes an hour to load.

Nobody waits for it: the clock by which durations are measured is put forward instead.
"""

from __future__ import annotations

import ssl
import sys
import time
from importlib.machinery import PathFinder

_HOUR = 3600.0


class SlowMachine:
    """The clock, and a finder of modules that puts it forward."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._monotonic = time.monotonic

    def monotonic(self) -> float:
        return self._monotonic() + self._ahead

    def find_spec(self, *arguments):
        spec = PathFinder.find_spec(*arguments)
        if spec is not None:
            self._ahead += _HOUR
        return spec

    def load_slowly(self, load):
        """Return a method of TLS contexts that takes its time."""

        def slowly(*arguments, **named):
            self._ahead += _HOUR
            return load(*arguments, **named)

        return slowly


if __name__ == "__main__":
    machine = SlowMachine()
    time.monotonic = machine.monotonic
    sys.meta_path.insert(0, machine)
    for name in ("load_verify_locations", "set_default_verify_paths", "load_default_certs"):
        setattr(ssl.SSLContext, name, machine.load_slowly(getattr(ssl.SSLContext, name)))
    from agent.__main__ import main

    main()
