"""Brings a candidate to the host by requests: fetch it, ask the gates again, activate it.

Between the two sides goes nothing but text. Here, in one process, the seam is the same as between
two: each request is serialised, parsed and judged as if it came from a stranger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application.act.activate import activate
from agent.application.act.answers import (
    Activated,
    Failed,
    NotBegun,
    parse_activated,
    parse_fetched,
    serialise,
)
from agent.application.act.fetch import fetch
from agent.application.watch.requests import activate_request, fetch_request
from agent.domain.gate import Judgement
from agent.domain.policy import Action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.application.ports import Fetched, Ports
    from agent.application.run import Run
    from agent.domain.candidate import Candidate
    from agent.domain.systems import Systems


async def bring(
    run: Run[Ports],
    candidate: Candidate,
    seen: Systems,
    judgements: Sequence[Judgement],
    decision: str,
) -> tuple[Activated | NotBegun | Failed, Fetched | None]:
    """Bring a candidate to the host that was `seen`; return what came of it, and what was fetched.

    `judgements` are what the gates said before.
    """
    store_dir = run.settings.store_dir
    answer = await fetch(run, fetch_request(run, candidate, decision).serialise())
    ready = parse_fetched(serialise(answer), store_dir=store_dir)
    if isinstance(ready, Failed):
        return ready, ready.fetched

    async def ask(*, is_switch_refused: bool) -> Activated | NotBegun | Failed:
        request = await activate_request(
            *(run, candidate, ready.toplevel, seen, judgements), is_switch_refused=is_switch_refused
        )
        if isinstance(request, Judgement):
            action = Action.BOOT if is_switch_refused else run.policy.action
            return NotBegun(((request.gate, request.reason),), action, held=(request,))
        answer = await activate(run, request.serialise())
        return parse_activated(serialise(answer), store_dir=store_dir)

    reached = await ask(is_switch_refused=False)
    if isinstance(reached, Failed) and reached.is_switch_refused:
        reached = await ask(is_switch_refused=True)
    return reached, ready.fetched
