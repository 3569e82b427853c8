"""Entry point: the idle path first, and the whole agent only where there is something to do."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["upgrade"]:
        from agent.idle import attempt  # noqa: PLC0415 - each path loads only what it needs

        code = attempt(arguments[1:])
        if code is not None:
            sys.exit(code)
    if arguments[:1] == ["confirm"]:
        from agent.idle import has_nothing_to_confirm  # noqa: PLC0415

        if has_nothing_to_confirm(arguments[1:]):
            sys.exit(0)
    from agent.cli.main import run  # noqa: PLC0415

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
