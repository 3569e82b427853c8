"""Entry point: the idle path first, and the whole agent only where there is something to do."""

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130
"""As `ExitCode.INTERRUPTED`, which is not there yet."""


def main() -> None:
    """Run the command line and exit with its code, also where it is interrupted while it loads."""
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        # All memory goes with the process: to look for cycles in it is a fifth of a short run.
        gc.freeze()


def _run(arguments: list[str]) -> None:
    busy: list[float] = []
    if arguments[:1] == ["upgrade"]:
        from agent.lean.idle_poll import attempt

        code = attempt(arguments[1:], busy.append)
        if code is not None:
            sys.exit(code)
    if arguments[:1] == ["confirm"]:
        from agent.lean.idle_poll import has_nothing_to_confirm

        if has_nothing_to_confirm(arguments[1:]):
            sys.exit(0)
    if arguments[:1] == ["dead-man"] and "--booted" in arguments:
        from agent.lean.boot_deadline import end_boot

        sys.exit(end_boot(arguments[1:], lambda: _whole(arguments)))
    sys.exit(_whole(arguments, busy[0] if busy else None))


def _whole(arguments: list[str], hydra_wait: float | None = None) -> int:
    from agent.cli.main import run

    return run(arguments, hydra_wait)


if __name__ == "__main__":
    main()
