"""The requests that the part which talks to the world makes of the part which changes the host.

They travel as text and are checked on arrival as if they came from a stranger, so that the two
parts can be two processes with different rights. A `Fetch` comes first. What it has brought is
activated once an `Activate` of the same run says so, which is valid for minutes, and once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from agent.domain.candidate import Candidate
from agent.domain.errors import HydraError, Kind, RequestError
from agent.domain.flake_reference import parse_locked_flake_reference
from agent.domain.ignored_gate import IgnoredGate
from agent.domain.job import Job
from agent.domain.policy import Action
from agent.domain.strict_json import Fields, MalformedError, read_object, write_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.domain.store_path import StorePath

VERSION: Final = 1
VALID_FOR: Final = timedelta(minutes=5)
"""How long a request is valid: what was asked before it is as old at most when it is acted on."""
LARGEST: Final = 16 * 1024 * 1024
"""Characters of a request. A host may have thousands of failed units, and each is named in one."""
_AHEAD: Final = timedelta(seconds=30)
"""How far a clock may be set back after a request was made."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Which run has made a request, for which host, and when."""

    run_id: str
    host: str
    issued_at: datetime

    def require_valid(self, host: str, now: datetime) -> None:
        """Make sure that the request is for this host, and for now.

        Raises:
            RequestError: REQUEST_MISDIRECTED, REQUEST_FROM_FUTURE, REQUEST_EXPIRED.
        """
        if self.host != host:
            raise RequestError(
                Kind.REQUEST_MISDIRECTED, f"a request for the host {self.host!r}; this is {host!r}"
            )
        if self.issued_at > now + _AHEAD:
            raise RequestError(
                Kind.REQUEST_FROM_FUTURE,
                f"a request made at {self.issued_at.isoformat()}, and it is {now.isoformat()}",
                hint="was the clock set back? the next run makes a new one",
            )
        if now > self.issued_at + VALID_FOR:
            raise RequestError(
                Kind.REQUEST_EXPIRED,
                f"a request made at {self.issued_at.isoformat()} is valid for"
                f" {VALID_FOR.total_seconds():g} s only, and it is {now.isoformat()}",
                hint="the next run asks everything again",
            )


@dataclass(frozen=True, slots=True)
class Fetch:
    """Please verify `candidate`, and bring it into the store; the host stays as it is."""

    envelope: Envelope
    candidate: Candidate
    action: Action
    """What it is fetched for."""
    decision: str
    started_at: datetime
    """When the run began."""
    ignored: tuple[IgnoredGate, ...] = ()

    def serialise(self) -> str:
        """Return the request as one line of JSON."""
        return _write(
            "fetch",
            self.envelope,
            {
                "candidate": _candidate_fields(self.candidate),
                "action": self.action,
                "decision": self.decision,
                "started_at": self.started_at.isoformat(),
                "ignored": self.ignored,
            },
        )

    @classmethod
    def parse(cls, text: str, *, store_dir: str) -> Fetch:
        """Return the request that `text` carries.

        Raises:
            RequestError: REQUEST_MALFORMED, REQUEST_TOO_LARGE.
        """

        def read(envelope: Envelope, fields: Fields) -> Fetch:
            return cls(
                envelope=envelope,
                candidate=_candidate(fields.object("candidate"), store_dir),
                action=Action(fields.text("action")),
                decision=fields.text("decision"),
                started_at=fields.instant("started_at"),
                ignored=_ignored(fields),
            )

        return _read("fetch", text, read)


@dataclass(frozen=True, slots=True)
class Activate:
    """Please activate what the same run has fetched: the gates were asked again since.

    `running` and `profile` are the host's systems that this was decided on, None where unknown.
    """

    envelope: Envelope
    candidate: Candidate
    toplevel: StorePath
    """What was fetched or built; without a proof it may be another path than the candidate's."""
    action: Action
    reasons: tuple[str, ...]
    """What led to it."""
    running: StorePath | None
    profile: StorePath | None
    baseline: str
    """`Baseline.serialise()`: how things were just before."""
    ignored: tuple[IgnoredGate, ...] = ()
    is_switch_refused: bool = False
    """NixOS has refused to switch to it, so that it is to be staged."""

    def serialise(self) -> str:
        """Return the request as one line of JSON."""
        return _write(
            "activate",
            self.envelope,
            {
                "candidate": _candidate_fields(self.candidate),
                "toplevel": self.toplevel,
                "action": self.action,
                "reasons": self.reasons,
                "running": self.running,
                "profile": self.profile,
                "baseline": self.baseline,
                "ignored": self.ignored,
                "is_switch_refused": self.is_switch_refused,
            },
        )

    @classmethod
    def parse(cls, text: str, *, store_dir: str) -> Activate:
        """Return the request that `text` carries.

        Raises:
            RequestError: REQUEST_MALFORMED, REQUEST_TOO_LARGE.
        """

        def read(envelope: Envelope, fields: Fields) -> Activate:
            return cls(
                envelope=envelope,
                candidate=_candidate(fields.object("candidate"), store_dir),
                toplevel=fields.store_path("toplevel", store_dir),
                action=Action(fields.text("action")),
                reasons=fields.texts("reasons"),
                running=fields.store_path_or_none("running", store_dir),
                profile=fields.store_path_or_none("profile", store_dir),
                baseline=fields.text("baseline"),
                ignored=_ignored(fields),
                is_switch_refused=fields.truth("is_switch_refused"),
            )

        return _read("activate", text, read)


def _write(kind: str, envelope: Envelope, body: Mapping[str, object]) -> str:
    return write_message(
        kind,
        {
            "run_id": envelope.run_id,
            "host": envelope.host,
            "issued_at": envelope.issued_at.isoformat(),
            **body,
        },
    )


def _read(kind: str, text: str, read: Callable[[Envelope, Fields], _T]) -> _T:
    """Return what `read` makes of the fields of a request."""

    def read_request(fields: Fields) -> _T:
        envelope = Envelope(
            run_id=fields.text("run_id"),
            host=fields.text("host"),
            issued_at=fields.instant("issued_at"),
        )
        return read(envelope, fields)

    return read_message(f"a request to {kind}", text, {kind: read_request})


def write_message(kind: str, body: Mapping[str, object]) -> str:
    """Return a request, or an answer to one, as one line of JSON."""
    return write_object({"version": VERSION, "kind": kind, **body})


def read_message(what: str, text: str, readers: Mapping[str, Callable[[Fields], _T]]) -> _T:
    """Return what the reader of its kind makes of a message; no field may be left over.

    Raises:
        RequestError: REQUEST_MALFORMED, REQUEST_TOO_LARGE.
    """
    if len(text) > LARGEST:
        raise RequestError(
            Kind.REQUEST_TOO_LARGE, f"{what} has {len(text)} characters; {LARGEST} are allowed"
        )
    try:
        fields = read_object(text)
        if (version := fields.number("version")) != VERSION:
            raise MalformedError(f"version {version} is not {VERSION}")
        if (named := fields.text("kind")) not in readers:
            raise MalformedError(f"its kind is {named[:40]!r} and not {' or '.join(readers)}")
        message = readers[named](fields)
        fields.end()
    except (ValueError, HydraError) as error:
        raise RequestError(
            Kind.REQUEST_MALFORMED, f"what should be {what} is not one: {error}"
        ) from error
    return message


def _candidate_fields(candidate: Candidate) -> dict[str, object]:
    job = candidate.job
    return {
        "instance": job.instance,
        "project": job.project,
        "jobset": job.jobset,
        "job": job.name,
        "build_id": candidate.build_id,
        "eval_id": candidate.eval_id,
        "flake": candidate.flake,
        "toplevel": candidate.toplevel,
        "system": candidate.system,
        "finished_at": candidate.finished_at and candidate.finished_at.isoformat(),
    }


def _candidate(fields: Fields, store_dir: str) -> Candidate:
    flake = fields.text_or_none("flake")
    candidate = Candidate(
        job=Job(
            instance=fields.text("instance"),
            project=fields.text("project"),
            jobset=fields.text("jobset"),
            name=fields.text("job"),
        ),
        build_id=fields.number("build_id"),
        toplevel=fields.store_path("toplevel", store_dir),
        system=fields.text("system"),
        finished_at=fields.instant_or_none("finished_at"),
        eval_id=fields.number_or_none("eval_id"),
        flake=None if flake is None else parse_locked_flake_reference(flake),
    )
    fields.end()
    return candidate


def _ignored(fields: Fields) -> tuple[IgnoredGate, ...]:
    rows = fields.rows("ignored", len(IgnoredGate._fields))
    return tuple(IgnoredGate(*row) for row in rows)
