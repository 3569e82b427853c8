"""One side of an upgrade, as a process of its own: `one_side.py watch|act CONFIG [CACHE PORT]`.

Requests and answers go through standard output and input, a line each; all else is on standard
error. The side that acts serves the cache at the port itself: in a namespace without any other
network there is nothing else that it could reach.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import nullcontext
from pathlib import Path

from agent.application.act.activate import activate
from agent.application.act.answers import Ready, parse_fetched, serialise
from agent.application.act.fetch import fetch
from agent.application.act.recover import recover_all
from agent.application.facts.ask_gates import ask_gates
from agent.application.run import RunSettings, begin
from agent.application.watch.observe import find_newest
from agent.application.watch.requests import activate_request, fetch_request
from agent.cli.render.progress import LoggedProgress
from agent.config.load import load_settings
from agent.config.policy import policy_of
from agent.demo.cache_server import CacheServer
from agent.domain.gate import Judgement
from agent.telemetry.log import StructlogSink, standard_error
from agent.wiring.host import host_ports, open_watch_ports

RUN_ID = "run-of-two"


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def hear():
    return sys.stdin.readline().rstrip("\n")


async def watch(settings, sink, config):
    """Look for a build, ask for it to be fetched, ask the gates again, ask for its activation."""
    policy, store_dir = policy_of(settings), str(settings.paths.store_dir)
    facts = host_ports(settings, sink, LoggedProgress(sink), config_file=config)
    async with open_watch_ports(settings, sink, facts) as ports:
        run = begin(ports, policy, RunSettings(RUN_ID, store_dir))
        found = await find_newest(ports.hydra, ports.host, policy, store_dir)
        seen = ports.host.systems()
        judgements = await ask_gates(run, found.newest, every=False)
        assert all(judgement.is_open for judgement in judgements), judgements
        say(fetch_request(run, found.newest, "upgrade").serialise())
        ready = parse_fetched(hear(), store_dir=store_dir)
        assert isinstance(ready, Ready), ready
        request = await activate_request(run, found.newest, ready.toplevel, seen, judgements)
        say("held" if isinstance(request, Judgement) else request.serialise())


async def act(settings, sink, config):
    """Carry out whatever requests come, and answer each."""
    ports = host_ports(settings, sink, LoggedProgress(sink), config_file=config)
    run = begin(ports, policy_of(settings), RunSettings(RUN_ID, str(settings.paths.store_dir)))
    with ports.lock.hold():
        ports.journal.prepare()
        await recover_all(run)
        say(json.dumps([name for _, name in socket.if_nameindex()]))
        while text := hear():
            is_fetch = '"kind": "fetch"' in text
            answer = await (fetch(run, text) if is_fetch else activate(run, text))
            say(serialise(answer))


def main(side, config, cache=None, port=None):
    settings = load_settings(Path(config))
    sink = StructlogSink(standard_error(), level="info", format="json")
    listener = None
    if cache is not None:
        listener = socket.create_server(("127.0.0.1", int(port)))
    with nullcontext() if listener is None else CacheServer(Path(cache), listener):
        asyncio.run((act if side == "act" else watch)(settings, sink, Path(config)))


if __name__ == "__main__":
    main(*sys.argv[1:])
