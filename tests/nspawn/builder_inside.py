"""Builds systems: runs in a builder's root, asked by lines of JSON, and answers with such."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from agent.demo.host import Farm
from agent.domain.target import HOME_MANAGER


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Whatever else is printed does not belong between the answers.
    os.dup2(2, 1)
    farm = Farm(Path("/"))
    print(json.dumps({"key": farm.public_key}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _build(farm, asked["hosts"], asked["homes"], publishes=asked["publishes"])
        except Exception:  # noqa: BLE001 - raised again by who asked
            answer = {"fault": traceback.format_exc()}
        print(json.dumps(answer), file=answers)


def _build(
    farm: Farm,
    hosts: dict[str, dict[str, object]],
    homes: dict[str, dict[str, object]],
    *,
    publishes: bool,
) -> dict[str, object]:
    revision = farm.commit(hosts, homes=homes)
    built = {host: farm.build(revision, host) for host in hosts}
    built |= {name: farm.build(revision, name, HOME_MANAGER) for name in homes}
    if publishes:
        farm.publish(*built.values())
    return {"revision": revision, "reference": farm.reference(revision), "built": built}


main()
