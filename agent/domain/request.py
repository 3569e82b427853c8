"""The one value that crosses from the part that talks to the world to the part that acts.

It travels as text and is checked again on arrival, so that the two parts may later be two
processes with different rights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from agent.domain.candidate import Candidate
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.job import Job
from agent.domain.policy import Action
from agent.domain.store_path import StorePath, parse_store_path

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    """Please bring `candidate` to this host by `action`; `reasons` say what led to it.

    `running` and `profile` are the host's systems that this was decided on, None where unknown.
    """

    candidate: Candidate
    action: Action
    reasons: tuple[str, ...]
    running: StorePath | None
    profile: StorePath | None

    def serialise(self) -> str:
        """Return the request as one line of JSON."""
        found = self.candidate
        job = found.job
        return json.dumps(
            {
                "instance": job.instance,
                "project": job.project,
                "jobset": job.jobset,
                "job": job.name,
                "build_id": found.build_id,
                "eval_id": found.eval_id,
                "flake": found.flake,
                "toplevel": found.toplevel,
                "system": found.system,
                "finished_at": found.finished_at and found.finished_at.isoformat(),
                "action": self.action,
                "reasons": list(self.reasons),
                "running": self.running,
                "profile": self.profile,
            }
        )

    @classmethod
    def parse(cls, text: str, *, store_dir: str) -> Request:
        """Return the request that `text` carries, checked as if it came from a stranger.

        Raises:
            ValueError: when a part is missing, of a wrong type, or fails its own check
                (`HydraError` for the flake reference).
        """
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("a request is a JSON object")
        toplevel = parse_store_path(fields.get("toplevel"), store_dir)
        if toplevel is None:
            raise ValueError("the request names no store path")
        flake = _optional(fields, "flake", str)
        finished_at = _optional(fields, "finished_at", str)
        reasons = _required(fields, "reasons", list)
        if not all(isinstance(reason, str) for reason in reasons):
            raise ValueError("the request's reasons are not text")
        return cls(
            candidate=Candidate(
                job=Job(
                    instance=_required(fields, "instance", str),
                    project=_required(fields, "project", str),
                    jobset=_required(fields, "jobset", str),
                    name=_required(fields, "job", str),
                ),
                build_id=_required(fields, "build_id", int),
                toplevel=toplevel,
                system=_required(fields, "system", str),
                finished_at=None if finished_at is None else datetime.fromisoformat(finished_at),
                eval_id=_optional(fields, "eval_id", int),
                flake=None if flake is None else parse_locked_flake_reference(flake),
            ),
            action=Action(_required(fields, "action", str)),
            reasons=tuple(reasons),
            running=parse_store_path(_optional(fields, "running", str), store_dir),
            profile=parse_store_path(_optional(fields, "profile", str), store_dir),
        )


def _optional(fields: dict[str, object], name: str, kind: type[_T]) -> _T | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"the request's {name} is not {kind.__name__}")
    return value


def _required(fields: dict[str, object], name: str, kind: type[_T]) -> _T:
    value = _optional(fields, name, kind)
    if value is None:
        raise ValueError(f"the request has no {name}")
    return value
