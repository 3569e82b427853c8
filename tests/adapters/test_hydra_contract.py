"""What every Hydra port keeps: the fake in memory, and the client before the embedded Hydra."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.http.retries import Retries
from agent.adapters.hydra.client import HydraClient
from agent.demo.hydra import world as embedded
from agent.demo.hydra.server import EmbeddedHydra
from agent.domain.build import Build
from agent.domain.errors import HydraError, Kind
from agent.domain.job import Job, Select
from demo.hydra_changes import rename_jobset
from fakes.events import RememberedEvents
from fakes.hydra import FakeHydra, FakeJobset

LATEST, FINISHED = Select.LATEST, Select.LATEST_FINISHED
STORE = "/nix/store/vc5mmzcxri0id7279640wvk9jsv7ylqy-nixos-system"


def flake(number: int) -> str:
    return f"git+https://forge.example.org/fleet?ref=main&rev={number:040x}"


def build(number: int, *evals: int, job: str = "alpha", status: int | None = 0, **more) -> Build:
    """A build of p:j:alpha; a status of None is queued."""
    is_finished = status is not None
    known = {
        "jobset": "j",
        "system": "x86_64-linux",
        "is_finished": is_finished,
        "outputs": {"out": f"{STORE}-{job}-{number}"},
        "finished_at": datetime.fromtimestamp(1795214700 + number, UTC) if is_finished else None,
    }
    return Build(id=number, project="p", job=job, status=status, evals=evals, **{**known, **more})


def fleet() -> FakeHydra:
    """Three evals: alpha is good in 1 and 2 and red in 3, beta was dropped after 2."""
    hydra = FakeHydra()
    hydra.jobsets["p", "j"] = FakeJobset({number: flake(number) for number in (1, 2, 3)})
    hydra.add(
        build(1, 1),
        build(2, 1, 2, job="beta"),
        build(3, 2),
        build(4, 3, status=1),
        build(5, 2, 3, job="gamma", status=None),
        build(6, 3, job='"web-1.example.org"'),
        build(7, 3, job="failing", status=7),
    )
    return hydra


class Fake:
    """Asks the fake."""

    def __init__(self, hydra: FakeHydra) -> None:
        self.hydra = hydra

    def ask(self, question):
        return asyncio.run(question(self.hydra))


class Client:
    """Asks the embedded Hydra, filled as the fake is."""

    def __init__(self, hydra: FakeHydra) -> None:
        self.hydra = hydra

    def ask(self, question):
        async def run():
            async with HydraClient(
                server.url,
                timeout=5,
                deadline=20,
                sink=RememberedEvents(),
                clock=SystemClock(),
                retries=Retries(attempts=1),
            ) as client:
                return await question(client)

        with EmbeddedHydra(_as_embedded(self.hydra)) as server:
            return asyncio.run(run())


def _as_embedded(hydra: FakeHydra) -> embedded.World:
    world = embedded.World()
    for (project, name), jobset in hydra.jobsets.items():
        row = world.add_jobset(project, name)
        row.enabled, row.errormsg = int(jobset.is_enabled), jobset.error
        row.checkinterval = 300
        row.lastcheckedtime = int(world.now()) - (3600 + 660 if jobset.is_overdue else 3600)
        for number, text in jobset.evals.items():
            members = [known.id for known in hydra.builds.values() if number in known.evals]
            world.evals[number] = embedded.Eval(number, row, text, 1795214700, members)
        if jobset.renamed_to:
            rename_jobset(world, project, name, jobset.renamed_to)
    world.disabled_projects = set(hydra.disabled_projects)
    for known in hydra.builds.values():
        world.put_build(
            embedded.Build(
                id=known.id,
                jobset=world.jobset(known.project, known.jobset)
                or world.add_jobset(known.project, known.jobset),
                job=known.job,
                nixname="nixos-system",
                system=known.system,
                drvpath="/nix/store/x.drv",
                outputs=dict(known.outputs),
                timestamp=1795214700,
                finished=int(known.is_finished),
                buildstatus=known.status,
                stoptime=known.finished_at and int(known.finished_at.timestamp()),
            )
        )
    return world


@pytest.fixture(name="scene", params=[Fake, Client], ids=["fake", "client"])
def _scene(request, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return request.param(fleet())


def job(name: str = "alpha", jobset: str = "j", project: str = "p") -> Job:
    return Job("http://hydra.test", project, jobset, name)


def kind_of(scene, question) -> Kind:
    with pytest.raises(HydraError) as caught:
        scene.ask(question)
    return caught.value.kind


def newest(asked: Job, select: Select = LATEST):
    return lambda hydra: hydra.newest_good_build(asked, select)


def test_the_newest_good_build_is_the_highest_one_that_succeeded(scene):
    assert scene.ask(newest(job())) == 3


def test_a_newer_failed_build_is_not_selected(scene):
    scene.hydra.add(build(8, 3, status=6))
    assert scene.ask(newest(job())) == 3


def test_latest_finished_wants_an_eval_in_which_nothing_is_left_to_build(scene):
    assert scene.ask(newest(job(), FINISHED)) == 1


def test_a_restarted_build_is_not_good_until_it_has_finished_again(scene):
    scene.hydra.add(build(3, 2, is_finished=False, finished_at=None))
    assert scene.ask(newest(job())) == 1


def test_a_dotted_name_has_its_quotes(scene):
    assert scene.ask(newest(job('"web-1.example.org"'))) == 6


def test_a_removed_job_still_has_its_last_good_build(scene):
    assert scene.ask(newest(job("beta"))) == 2


@pytest.mark.parametrize(
    ("asked", "select", "kind"),
    [
        (job(project="nosuch"), LATEST, Kind.JOBSET_MISSING),
        (job(jobset="nosuch"), LATEST, Kind.JOBSET_MISSING),
        (job("nosuch"), LATEST, Kind.JOB_MISSING),
        (job("web-1.example.org"), LATEST, Kind.JOB_MISSING),
        (job("gamma"), LATEST, Kind.JOB_NOT_BUILT_YET),
        (job('"web-1.example.org"'), FINISHED, Kind.JOB_NOT_BUILT_YET),
        (job("failing"), LATEST, Kind.JOB_NEVER_GOOD),
        (job("failing"), FINISHED, Kind.JOB_NEVER_GOOD),
    ],
)
def test_the_reason_for_having_no_build_is_told(scene, asked, select, kind):
    assert kind_of(scene, newest(asked, select)) is kind


def test_the_only_good_build_that_is_built_again_is_unfinished(scene):
    scene.hydra.add(build(6, 3, job='"web-1.example.org"', is_finished=False, finished_at=None))
    assert kind_of(scene, newest(job('"web-1.example.org"'))) is Kind.BUILD_UNFINISHED


def test_a_good_build_of_an_older_eval_that_is_built_again_is_unfinished(scene):
    scene.hydra.add(
        build(1, 1, is_finished=False, finished_at=None),
        build(3, 2, status=1),
        build(4, 3, status=1),
    )
    assert kind_of(scene, newest(job())) is Kind.BUILD_UNFINISHED


def test_a_new_build_of_what_has_only_failed_is_waited_for(scene):
    scene.hydra.jobsets["p", "j"].evals[4] = flake(4)
    scene.hydra.add(build(8, 4, job="failing", status=None))
    assert kind_of(scene, newest(job("failing"))) is Kind.JOB_NOT_BUILT_YET


def test_a_job_that_does_not_evaluate_is_told_from_one_that_is_not_there(scene):
    scene.hydra.jobsets["p", "j"].error = "in job 'nosuch':\nerror: x\nin job 'alpha':\nerror: y"
    assert kind_of(scene, newest(job("nosuch"))) is Kind.JOB_NOT_EVALUATED
    assert kind_of(scene, newest(job("absent"))) is Kind.JOB_MISSING


def test_a_disabled_project_is_the_reason_where_it_has_no_good_build(scene):
    scene.hydra.disabled_projects.add("p")
    assert kind_of(scene, newest(job("failing"))) is Kind.JOBSET_DISABLED


def test_a_disabled_jobset_is_the_reason_where_it_has_no_good_build(scene):
    scene.hydra.jobsets["p", "j"].is_enabled = False
    assert kind_of(scene, newest(job("failing"))) is Kind.JOBSET_DISABLED
    assert scene.ask(newest(job())) == 3


def test_a_jobset_that_never_evaluated_is_the_reason(scene):
    scene.hydra.jobsets["p", "new"] = FakeJobset(error="error: undefined variable 'x'\nat …")
    assert kind_of(scene, newest(job(jobset="new"))) is Kind.JOBSET_NEVER_EVALUATED


def test_a_renamed_jobset_is_the_reason(scene):
    scene.hydra.jobsets["p", "old"] = FakeJobset(renamed_to="young")
    assert kind_of(scene, newest(job(jobset="old"))) is Kind.JOBSET_RENAMED


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7])
def test_a_build_is_told_as_it_is(scene, number):
    found = scene.ask(lambda hydra: hydra.build(number))
    known = scene.hydra.builds[number]
    assert sorted(found.evals) == sorted(known.evals)
    assert found == build(
        number, *found.evals, job=known.job, status=known.status, finished_at=known.finished_at
    )


def test_a_build_that_does_not_exist_is_missing(scene):
    assert kind_of(scene, lambda hydra: hydra.build(4711)) is Kind.BUILD_MISSING


def test_the_flake_is_that_of_the_newest_eval_of_the_build(scene):
    found = scene.ask(lambda hydra: hydra.locked_flake(build(2, 2, 1)))
    assert found == (2, flake(2))


def test_of_deleted_evals_the_next_lower_one_is_taken(scene):
    found = scene.ask(lambda hydra: hydra.locked_flake(build(2, 1, 98, 99)))
    assert found == (1, flake(1))


def test_a_build_of_deleted_evals_has_no_flake(scene):
    assert kind_of(scene, lambda hydra: hydra.locked_flake(build(2, 98))) is Kind.EVAL_MISSING


def test_a_build_without_evals_has_no_flake(scene):
    assert kind_of(scene, lambda hydra: hydra.locked_flake(build(2))) is Kind.BUILD_WITHOUT_EVAL


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, Kind.EVAL_WITHOUT_FLAKE),
        ("git+https://forge.example.org/fleet?ref=main", Kind.FLAKE_UNLOCKED),
        ("--option", Kind.FLAKE_LOOKS_LIKE_OPTION),
        ("github:o/r/$(reboot)", Kind.FLAKE_UNSAFE_CHARACTERS),
    ],
)
def test_a_flake_that_may_not_be_used_is_refused(scene, text, kind):
    scene.hydra.jobsets["p", "j"].evals[2] = text
    assert kind_of(scene, lambda hydra: hydra.locked_flake(build(3, 2))) is kind


def outlook(scene, asked: Job, found: Build | None):
    return scene.ask(lambda hydra: hydra.outlook(asked, found))


def test_a_newer_red_build_is_in_the_outlook(scene):
    told = outlook(scene, job(), scene.hydra.builds[3])
    assert told.newer_build_failed is True
    assert told.gone_since_eval is None
    assert (told.is_jobset_disabled, told.evaluation_error, told.fault) == (False, "", None)


def test_a_job_whose_newest_build_is_the_good_one_has_a_clear_outlook(scene):
    told = outlook(scene, job('"web-1.example.org"'), scene.hydra.builds[6])
    assert told.newer_build_failed is False


def test_a_job_that_the_newest_finished_eval_has_no_more_is_gone(scene):
    scene.hydra.add(build(5, 2, 3, job="gamma"))
    told = outlook(scene, job("beta"), scene.hydra.builds[2])
    assert told.gone_since_eval == 3


def test_a_job_is_not_gone_while_the_eval_without_it_is_unfinished(scene):
    told = outlook(scene, job("beta"), scene.hydra.builds[2])
    assert told.gone_since_eval is None


def test_a_disabled_jobset_and_a_broken_evaluation_are_in_the_outlook(scene):
    jobset = scene.hydra.jobsets["p", "j"]
    jobset.is_enabled, jobset.error = False, "error: attribute 'alpha' missing"
    told = outlook(scene, job(), scene.hydra.builds[3])
    assert told.is_jobset_disabled is True
    assert told.evaluation_error == "error: attribute 'alpha' missing"


def test_the_failed_evaluation_of_another_job_is_not_in_the_outlook(scene):
    jobset = scene.hydra.jobsets["p", "j"]
    jobset.error = "in job 'beta':\nerror: of beta\n"
    assert outlook(scene, job(), scene.hydra.builds[3]).evaluation_error == ""
    scene.hydra.add(build(5, 2, 3, job="gamma"))
    told = outlook(scene, job("beta"), scene.hydra.builds[2])
    assert (told.gone_since_eval, told.evaluation_error) == (None, "error: of beta")


def test_a_newer_build_that_was_cancelled_has_not_failed(scene):
    scene.hydra.add(build(4, 3, status=4))
    assert outlook(scene, job(), scene.hydra.builds[3]).newer_build_failed is False


def pending(scene, asked: Job, number: int, select: Select = LATEST):
    found = scene.hydra.builds[number]
    return scene.ask(lambda hydra: hydra.pending(asked, found, select))


@pytest.mark.parametrize(
    ("status", "state"),
    [(None, "is queued or being built"), (1, "failed"), (4, "was cancelled"), (3, "was aborted")],
)
def test_a_newer_build_is_pending_with_how_it_stands(scene, status, state):
    scene.hydra.add(build(4, 3, status=status))
    found = pending(scene, job(), 3)
    assert (found.newest.id, found.newest.state) == (4, state)
    assert (found.waiting, found.is_project_disabled, found.fault) == (None, False, None)


def test_nothing_is_pending_where_the_newest_is_offered_or_the_job_is_gone(scene):
    assert pending(scene, job('"web-1.example.org"'), 6).newest is None
    assert pending(scene, job("beta"), 2).newest is None


def test_a_newer_good_build_waits_for_its_eval(scene):
    found = pending(scene, job(), 1, FINISHED)
    assert (found.waiting, found.newest.id) == (3, 4)
    assert pending(scene, job(), 3, FINISHED).waiting is None
    assert pending(scene, job(), 1, LATEST).waiting is None


def test_a_disabled_project_is_pending_though_its_jobsets_are_enabled(scene):
    scene.hydra.disabled_projects.add("p")
    assert pending(scene, job(), 3).is_project_disabled is True
    assert outlook(scene, job(), scene.hydra.builds[3]).is_jobset_disabled is False


def test_a_disabled_project_is_in_the_outlook_once_a_check_is_overdue(scene):
    found = scene.hydra.builds[3]
    assert outlook(scene, job(), found).is_project_disabled is None
    scene.hydra.jobsets["p", "j"].is_overdue = True
    assert outlook(scene, job(), found).is_project_disabled is False
    scene.hydra.disabled_projects.add("p")
    told = outlook(scene, job(), found)
    assert (told.is_project_disabled, told.is_jobset_disabled) == (True, False)


def test_what_is_pending_in_a_jobset_that_is_no_more_is_a_fault_and_raises_nothing(scene):
    found = scene.ask(lambda hydra: hydra.pending(job(jobset="no"), build(1, 1), FINISHED))
    assert found.fault is not None
    assert found.newest is None


def test_the_outlook_of_a_jobset_that_is_no_more_is_a_fault_and_raises_nothing(scene):
    told = outlook(scene, job(jobset="nosuch"), None)
    assert told.fault is not None
    assert told.newer_build_failed is None
    assert told.is_jobset_disabled is None


def test_a_fake_that_is_given_a_fault_ends_every_question_in_it():
    scene = Fake(fleet())
    scene.hydra.fault = HydraError(Kind.HYDRA_REFUSED, "nobody is there")
    assert kind_of(scene, newest(job())) is Kind.HYDRA_REFUSED
    assert kind_of(scene, lambda hydra: hydra.build(3)) is Kind.HYDRA_REFUSED
    assert kind_of(scene, lambda hydra: hydra.locked_flake(build(3, 1))) is Kind.HYDRA_REFUSED
    assert outlook(scene, job(), None).fault is scene.hydra.fault
    found = scene.ask(lambda hydra: hydra.pending(job(), build(3, 1), LATEST))
    assert found.fault is scene.hydra.fault
    asked = ["newest_good_build", "build", "locked_flake", "outlook", "pending"]
    assert scene.hydra.asked == asked
