from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from agent.application.run import RunSettings
from agent.application.status import Status, take_status
from agent.domain.errors import HostError, HydraError, Kind, NixError
from agent.domain.facts import FreeSpace
from agent.domain.gate import Stage
from agent.domain.gates import asked_at
from agent.domain.marks import Mark
from agent.domain.policy import Action, RebootMode
from agent.domain.recovery import Step
from fakes.samples import OLD
from fakes.world import STORE, WATCHFUL, PowerCut, World, flake_of, system

NEW = system(1)
BOOT = replace(WATCHFUL, action=Action.BOOT)
REBOOTS = replace(BOOT, reboot_mode=RebootMode.WHEN_NEEDED)

ASKED = len(asked_at(Stage.CHOOSE)) - 1  # without host-upgrade, which is a home's


@pytest.fixture
def world():
    """A host on OLD, and a good, cached build of NEW."""
    world = World()
    world.publish(1, NEW)
    return world


def status(world, policy=WATCHFUL):
    return asyncio.run(take_status(world.ports, policy, RunSettings("status", STORE)))


def test_the_status_before_the_first_run_says_that_it_would_upgrade(world):
    fields = status(world).fields()
    assert (fields["decision"], fields["last_run"]) == ("upgrade", None)
    assert (fields["running"], fields["booted"], fields["profile"]) == (OLD, OLD, OLD)
    assert (fields["confirmed"], fields["pending"], fields["staged"]) == (None, None, None)
    assert fields["recovery"] == "adopt"
    assert fields["candidate"] == {
        "build_id": 1, "eval_id": 1001, "flake": flake_of(1001), "toplevel": NEW
    }  # fmt: skip
    assert [gate["open"] for gate in fields["gates"]] == [True] * ASKED
    assert "error" not in fields


def test_the_status_changes_nothing(world):
    world.lock.is_taken_by_another()
    status(world)
    assert world.journal.written == []
    assert world.steps.among("lock", "idle-note", "substitute", "evaluate_toplevel") == []
    assert world.steps.among("journal prepare", "journal contact", "switch") == []
    assert not world.marks.links


def test_the_status_of_a_settled_host_is_done(world):
    world.run()
    told = status(world)
    assert (told.verdict, told.marks.confirmed, told.recovery) == ("done", NEW, Step.NOTHING)


def test_what_an_upgrade_has_left_to_be_done_first_is_told(world):
    world.steps.at("start confirm", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    fields = status(world).fields()
    assert (fields["confirmed"], fields["pending"], fields["recovery"]) == (OLD, NEW, "confirm")
    assert world.marks.links == {Mark.CONFIRMED: OLD, Mark.PENDING: NEW}


def test_a_staged_system_is_told(world):
    world.run(BOOT)
    assert status(world, BOOT).fields()["staged"] == NEW


def test_a_gate_that_holds_is_a_hold_and_the_others_are_asked_all_the_same(world):
    world.host.space = FreeSpace(store=0, boot=0)
    world.canary_dies()
    fields = status(world).fields()
    assert fields["decision"] == "hold"
    closed = ["boot-space", "store-space", "health"]
    assert [gate["gate"] for gate in fields["gates"] if not gate["open"]] == closed
    assert len(fields["gates"]) == ASKED
    assert fields["gates"][-1]["reason"] == "canary: no reply"


def test_a_gate_that_cannot_be_asked_is_a_hold(world):
    world.steps.at("plan_fetch", NixError(Kind.PATH_NOT_CACHED, "not yet"))
    assert status(world).verdict == "hold"


def test_what_keeps_a_gate_from_being_asked_has_its_own_name(world):
    world.clock.move(40 * 86400)
    world.steps.at("plan_fetch", NixError(Kind.PATH_NOT_CACHED, "not in a cache"))
    held = [gate for gate in status(world).fields()["gates"] if not gate["open"]]
    assert [gate["gate"] for gate in held] == ["path-not-cached"]
    assert "finished 40 day(s) ago" in held[0]["reason"]


def test_a_run_says_how_old_a_build_is_that_is_in_no_cache(world):
    world.clock.move(40 * 86400)
    world.steps.at("substitute", NixError(Kind.PATH_NOT_CACHED, "not in a cache"))
    name, reason = world.run().reasons[0]
    assert name == "path-not-cached"
    assert "finished 40 day(s) ago" in reason


def test_a_gate_that_holds_does_not_matter_when_there_is_nothing_to_do(world):
    world.run()
    world.canary_dies()
    assert status(world).verdict == "done"


def test_a_reboot_is_held_by_health_but_not_by_a_lack_of_room(world):
    world.run(BOOT)
    world.host.space = FreeSpace(store=0, boot=0)
    assert status(world, REBOOTS).verdict == "reboot"
    world.canary_dies()
    assert status(world, REBOOTS).verdict == "hold"


def test_a_host_that_awaits_its_reboot_says_why(world):
    world.run(BOOT)
    fields = status(world, BOOT).fields()
    assert fields["decision"] == "await-reboot"
    assert fields["reason"] == "the running system is not the profile's"


def test_a_reboot_in_vain_is_told_with_its_reasons(world):
    world.run(REBOOTS)
    world.host.boot_id = "boot-1"
    fields = status(world, REBOOTS).fields()
    assert fields["decision"] == "hold"
    assert [reason["name"] for reason in fields["reasons"]] == ["reboot-ineffective"]


def test_the_outlook_is_told(world):
    world.publish(2, system(2))
    world.change(2, status=1)
    world.jobset.is_enabled = False
    world.jobset.error = "error: x"
    world.jobset.evals[3000] = flake_of(3000)
    fields = status(world).fields()
    assert fields["newer_build_failed"] is True
    assert fields["jobset_disabled"] is True
    assert fields["evaluation_error"] == "error: x"
    assert fields["job_gone_since_eval"] == 3000


def test_what_is_newer_than_the_offered_build_is_told(world):
    assert status(world).fields()["newer_build"] is None
    world.publish(2, system(2))
    world.change(2, is_finished=False, status=None)
    world.hydra.disabled_projects.add(world.hydra.builds[2].project)
    fields = status(world).fields()
    assert fields["newer_build"] == {"build_id": 2, "state": "is queued or being built"}
    assert (fields["build_waiting_for_eval"], fields["project_disabled"]) == (None, True)
    assert fields["newer_build_failed"] is False


def test_the_last_run_is_told(world):
    world.run()
    run = status(world).fields()["last_run"]
    assert (run["run_id"], run["outcome"], run["decision"]) == ("run-1", "confirmed", "upgrade")
    assert run["started_at"] == "2026-11-21T04:40:00+00:00"
    assert run["finished_at"] == "2026-11-21T04:40:30+00:00"
    assert (run["toplevel"], run["repeats"], run["error_kind"]) == (NEW, 0, None)


def test_a_run_that_was_cut_short_is_told_without_an_end(world):
    world.steps.at("switch", PowerCut())
    with pytest.raises(PowerCut):
        world.run()
    run = status(world).fields()["last_run"]
    assert (run["outcome"], run["finished_at"]) == ("activating", None)


def test_when_hydra_does_not_answer_what_is_known_of_the_host_is_told(world):
    world.run()
    world.hydra.fault = HydraError(Kind.HYDRA_REFUSED, "refused", hint="is it up?")
    fields = status(world).fields()
    assert fields["running"] == NEW
    assert fields["last_run"] is not None
    assert (fields["candidate"], fields["decision"], fields["gates"]) == (None, None, [])
    assert fields["error"] == {"kind": "hydra-refused", "message": "refused", "hint": "is it up?"}


def test_a_fault_without_advice_is_told_without_any(world):
    world.steps.at("systems", HostError(Kind.HOST_UNREADABLE, "a loop"))
    fields = status(world).fields()
    assert fields["error"] == {"kind": "host-unreadable", "message": "a loop"}
    assert fields["running"] is None


def test_a_status_of_which_nothing_is_known_can_still_be_told():
    fields = Status().fields()
    assert fields["decision"] is None
    assert fields["reason"] is None


def test_a_status_is_plain_data(world):
    world.run()
    assert json.loads(json.dumps(status(world).fields()))["running"] == NEW


def test_of_a_home_nothing_is_said_of_boots(world):
    said = status(world)
    assert set(said.fields()) - set(said.fields(is_booted=False)) == {
        "booted",
        "loader_fallback",
        "reboot",
    }
