from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.state.marks import MarkLinks
from agent.adapters.state.stopwatch import Uptime
from agent.domain.errors import HostError, Kind
from agent.domain.marks import Mark, Marks
from agent.domain.store_path import StorePath
from fakes.events import SteppedClock
from fakes.marks import FakeMarks
from fakes.stepwise import Steps, WorldMarks

ROOT = Path(__file__).parents[2]
STORE = Path("/nix/store")
OLD, NEW, OTHER = (StorePath(f"{STORE}/{letter * 32}-nixos") for letter in "abc")
REFUSED = OSError(errno.EIO, "no")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "gcroots" / "nixos-hydra-agent"


class Machine:
    """One that is booted when a test says so, and up for as long as it says."""

    def __init__(self):
        self.clock = SteppedClock()
        self.boots = 1
        self.booted_at = 0.0

    def uptime(self):
        return Uptime(lambda: f"boot-{self.boots}", lambda: self.clock.seconds - self.booted_at)

    def boot(self):
        self.boots += 1
        self.booted_at = self.clock.seconds


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def real(directory, machine):
    return MarkLinks(directory, STORE, machine.uptime())


@pytest.fixture(params=["links", "fake"])
def keeper(request, machine):
    return FakeMarks(machine.clock) if request.param == "fake" else request.getfixturevalue("real")


# What everybody may rely on of a keeper of marks.


def test_at_first_nothing_is_marked(keeper):
    assert keeper.read() == Marks()
    assert keeper.pending_for() is None


@pytest.mark.parametrize("mark", list(Mark))
def test_each_mark_is_set_read_and_removed_by_itself(keeper, mark):
    for other in Mark:
        keeper.set(other, OLD)
    keeper.set(mark, NEW)
    assert {m for m in Mark if path_of(keeper, m) == NEW} == {mark}
    keeper.remove(mark)
    keeper.remove(mark)
    assert {m for m in Mark if path_of(keeper, m) is None} == {mark}


def path_of(keeper, mark):
    return getattr(keeper.read(), mark.replace("-", "_"))


def test_a_mark_that_moves_replaces_the_other_one(keeper):
    keeper.set(Mark.CONFIRMED, OLD)
    keeper.set(Mark.PENDING, NEW)
    assert keeper.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    assert keeper.read() == Marks(confirmed=NEW)


@pytest.mark.parametrize("was", [None, OTHER])
def test_a_mark_that_is_not_what_was_decided_on_does_not_move(keeper, was):
    keeper.set(Mark.CONFIRMED, OLD)
    if was is not None:
        keeper.set(Mark.PENDING, was)
    assert not keeper.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    assert keeper.read() == Marks(confirmed=OLD, pending=was)


def test_a_mark_moves_only_once(keeper):
    keeper.set(Mark.PENDING, NEW)
    assert keeper.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert not keeper.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    assert keeper.read() == Marks(rolling_back=NEW)


def test_it_is_known_for_how_long_a_system_is_pending(keeper, machine):
    keeper.set(Mark.CONFIRMED, OLD)
    assert keeper.pending_for() is None
    keeper.set(Mark.PENDING, NEW)
    assert keeper.pending_for() == timedelta(0)
    machine.clock.move(60)
    assert keeper.pending_for() == timedelta(seconds=60)
    assert keeper.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    machine.clock.move(60)
    assert keeper.pending_for() == timedelta(seconds=120)
    keeper.remove(Mark.ROLLING_BACK)
    assert keeper.pending_for() is None


def test_what_the_clock_is_set_to_makes_nothing_pending_for_longer(keeper, machine):
    machine.clock.instant = machine.clock.instant.replace(year=1970)
    keeper.set(Mark.PENDING, NEW)
    machine.clock.instant = machine.clock.instant.replace(year=2026)
    assert keeper.pending_for() == timedelta(0)


def test_the_patience_with_another_attempt_begins_anew(keeper, machine):
    keeper.set(Mark.PENDING, NEW)
    machine.clock.move(60)
    keeper.set(Mark.PENDING, NEW)
    assert keeper.pending_for() == timedelta(0)
    machine.clock.move(60)
    keeper.remove(Mark.PENDING)
    keeper.set(Mark.PENDING, NEW)
    assert keeper.pending_for() == timedelta(0)


def test_which_specialisation_runs_is_remembered(keeper):
    assert keeper.specialisation() is None
    for noted in ("quiet", "", "loud", None):
        keeper.note_specialisation(noted)
        assert keeper.specialisation() == noted
    assert keeper.read() == Marks()


@pytest.mark.parametrize("content", [b"a b", b"../x", b"\xff", b"x" * 300, b"a\nb"])
def test_what_is_no_name_of_a_specialisation_is_not_known(real, directory, content):
    real.note_specialisation("quiet")
    (directory / ".specialisation").write_bytes(content)
    assert real.specialisation() is None


def test_a_note_that_cannot_be_written_says_so(real, directory):
    (directory / ".specialisation").mkdir(parents=True)
    with pytest.raises(HostError) as caught:
        real.note_specialisation("quiet")
    assert caught.value.kind is Kind.MARKS_UNUSABLE


# What the links are.


def test_a_mark_is_a_link_which_the_garbage_collector_follows(real, directory):
    real.set(Mark.ROLLING_BACK, NEW)
    assert [entry.name for entry in directory.iterdir()] == ["rolling-back"]
    assert str((directory / "rolling-back").readlink()) == NEW


def test_time_that_the_machine_was_up_adds_up_over_its_boots(real, directory, machine):
    real.set(Mark.PENDING, NEW)
    for _ in range(5):
        machine.clock.move(3600)
        MarkLinks(directory, STORE, machine.uptime()).pending_for()
        machine.clock.move(10**6)  # down, as far as anybody knows
        machine.boot()
        MarkLinks(directory, STORE, machine.uptime()).pending_for()
    assert real.pending_for() == timedelta(hours=5)


def test_the_sum_is_kept_beside_the_mark_and_goes_with_it(real, directory):
    real.set(Mark.PENDING, NEW)
    assert names_in(directory) == {"pending", ".pending-for"}
    real.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert names_in(directory) == {"rolling-back", ".pending-for"}
    real.move(Mark.ROLLING_BACK, NEW, Mark.ROLLED_BACK)
    assert names_in(directory) == {"rolled-back"}


def names_in(directory):
    return {entry.name for entry in directory.iterdir()}


def test_a_sum_of_another_mark_does_not_count(real, directory, machine):
    real.set(Mark.PENDING, NEW)
    machine.clock.move(3600)
    real.pending_for()
    (directory / "pending").unlink()  # as an agent does that does not know of the sum
    (directory / ".pending").symlink_to(NEW)
    os.utime(directory / ".pending", ns=(1, 1), follow_symlinks=False)
    (directory / ".pending").rename(directory / "pending")
    assert real.pending_for() == timedelta(0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\xfe\0"),
        lambda file: file.write_text("x " * 400),
        lambda file: file.write_text(file.read_text().replace("3600000", "-1")),
        lambda file: file.write_text(file.read_text().replace("3600000", "9" * 40)),
        lambda file: file.write_text(file.read_text().replace("3600000", "nan")),
        lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
        lambda file: (file.unlink(), os.mkfifo(file)),
        lambda file: (file.unlink(), file.symlink_to(file.name)),
    ],
)
def test_a_sum_that_is_lost_or_cannot_be_read_begins_anew(real, directory, machine, spoil):
    real.set(Mark.PENDING, NEW)
    machine.clock.move(3600)
    real.pending_for()
    spoil(directory / ".pending-for")
    assert real.pending_for() == timedelta(0)
    machine.clock.move(3600)
    assert real.pending_for() == timedelta(hours=1)


def test_where_the_sum_cannot_be_written_the_present_boot_still_counts(real, directory, machine):
    real.set(Mark.PENDING, NEW)
    (directory / ".pending-for").unlink()
    (directory / ".pending-for").mkdir()
    machine.clock.move(3600)
    assert real.pending_for() == timedelta(0)
    assert names_in(directory) == {"pending", ".pending-for"}
    assert real.read() == Marks(pending=NEW)


def test_without_a_new_file_the_old_one_is_written_over(real, directory, machine):
    real.set(Mark.PENDING, NEW)
    (directory / ".pending-for.new").mkdir()  # nothing can be written there
    machine.clock.move(3600)
    assert real.pending_for() == timedelta(hours=1)
    machine.boot()
    real.pending_for()
    machine.clock.move(3600)
    assert real.pending_for() == timedelta(hours=2)


def test_an_unknown_boot_proves_no_time_to_have_passed(directory):
    seconds = iter([0.0, 3600.0])
    keeper = MarkLinks(directory, STORE, Uptime(lambda: "", lambda: next(seconds)))
    keeper.set(Mark.PENDING, NEW)
    assert keeper.pending_for() == timedelta(0)


def test_the_kernel_tells_boot_and_uptime(directory):
    keeper = MarkLinks(directory, STORE)
    keeper.set(Mark.PENDING, NEW)
    assert timedelta(0) <= keeper.pending_for() < timedelta(minutes=10)


def test_what_a_killed_agent_left_half_done_is_replaced(real, directory):
    directory.mkdir(parents=True)
    (directory / ".pending.new").symlink_to(OTHER)
    assert real.read() == Marks()
    real.set(Mark.PENDING, NEW)
    assert names_in(directory) == {"pending", ".pending-for"}
    assert real.read() == Marks(pending=NEW)


def test_what_else_is_in_the_directory_is_left_alone(real, directory):
    directory.mkdir(parents=True)
    (directory / "candidate").symlink_to(OTHER)
    real.set(Mark.PENDING, NEW)
    real.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    real.remove(Mark.CONFIRMED)
    assert [entry.name for entry in directory.iterdir()] == ["candidate"]


@pytest.mark.parametrize(
    "target",
    [
        "nowhere",
        "/etc/passwd",
        "/nix/store",
        f"{OLD}/sw",
        f"/nix/store/../..{OLD}",
        "\n",
        "x" * 4000,
    ],
)
def test_a_link_that_leads_out_of_the_store_is_told(real, directory, target):
    directory.mkdir(parents=True)
    (directory / "pending").symlink_to(target)
    with pytest.raises(HostError, match=r"the mark .*pending leads to") as caught:
        real.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    assert caught.value.kind is Kind.MARKS_UNUSABLE
    assert len(caught.value.message) < 1000
    assert real.read() == Marks(unreadable=((Mark.PENDING, caught.value.message),))
    assert (directory / "pending").is_symlink()


def test_after_the_advice_is_followed_all_is_well(real, directory):
    directory.mkdir(parents=True)
    (directory / "pending").symlink_to("nowhere")
    with pytest.raises(HostError, match="remove it"):
        real.move(Mark.PENDING, NEW, Mark.CONFIRMED)
    real.remove(Mark.PENDING)
    assert real.read() == Marks()


USES = {
    "read": lambda keeper: keeper.read(),
    "pending_for": lambda keeper: keeper.pending_for(),
    "set": lambda keeper: keeper.set(Mark.PENDING, NEW),
    "remove": lambda keeper: keeper.remove(Mark.PENDING),
    "move": lambda keeper: keeper.move(Mark.PENDING, NEW, Mark.CONFIRMED),
}


def file_in_its_place(directory):
    directory.parent.mkdir()
    directory.write_text("")


def file_as_a_mark(directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pending").write_text("")


def directory_as_a_mark(directory):
    (directory / "pending").mkdir(parents=True)


@pytest.mark.parametrize(
    ("trouble", "use"),
    [
        *((file_in_its_place, use) for use in ("read", "pending_for", "set", "move")),
        (file_as_a_mark, "move"),
        (directory_as_a_mark, "move"),
    ],
)
def test_what_is_no_directory_of_links_is_told(real, directory, trouble, use):
    trouble(directory)
    with pytest.raises(HostError, match=str(directory)) as caught:
        USES[use](real)
    assert caught.value.kind is Kind.MARKS_UNUSABLE


@pytest.mark.parametrize("trouble", [file_as_a_mark, directory_as_a_mark])
def test_what_stands_in_one_marks_place_hides_no_other(real, directory, trouble):
    real.set(Mark.CONFIRMED, OLD)
    trouble(directory)
    told = real.read()
    assert told.confirmed == OLD
    assert [mark for mark, _ in told.unreadable] == [Mark.PENDING]
    assert told.may_be(Mark.STAGED, Mark.PENDING)
    assert not told.may_be(Mark.STAGED)


@pytest.mark.parametrize("trouble", [file_as_a_mark, directory_as_a_mark])
def test_a_mark_that_is_set_takes_its_place(real, directory, trouble):
    trouble(directory)
    real.set(Mark.PENDING, NEW)
    assert real.read() == Marks(pending=NEW)


def test_a_mark_that_moves_takes_its_place_and_what_was_in_a_directory_is_kept(real, directory):
    real.set(Mark.PENDING, NEW)
    (directory / "rolling-back").mkdir()
    (directory / "rolling-back/notes").write_text("someone's")
    assert real.move(Mark.PENDING, NEW, Mark.ROLLING_BACK)
    assert real.read() == Marks(rolling_back=NEW)
    assert (directory / ".rolling-back.unreadable/notes").read_text() == "someone's"


def test_a_file_is_never_removed_for_a_mark(real, directory):
    file_as_a_mark(directory)
    real.remove(Mark.PENDING)
    assert (directory / "pending").exists()


IN_ITS_OWN_FILE_SYSTEM = """
import sys
from pathlib import Path
from agent.adapters.state.marks import MarkLinks
from agent.domain.errors import HostError
from agent.domain.marks import Mark
keeper = MarkLinks(Path(sys.argv[1]), Path("/nix/store"))
new = "/nix/store/" + "b" * 32 + "-nixos"
def tell(name, use):
    try:
        print(name, use())
    except HostError as error:
        print(name, error.kind)
tell("set", lambda: keeper.set(Mark.CONFIRMED, new))
tell("move", lambda: keeper.move(Mark.PENDING, new, Mark.ROLLING_BACK))
tell("remove", lambda: keeper.remove(Mark.STAGED))
tell("read", lambda: keeper.read().rolling_back == new)
"""


def in_its_own_file_system(directory, *mounts):
    """What becomes of each change where `mounts` were made before."""
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-ec", f'{"; ".join(mounts)}; exec "$@" "$0"'),
            *(str(directory), sys.executable, "-P", "-c", IN_ITS_OWN_FILE_SYSTEM),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if "mount:" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_where_nothing_may_be_written_marks_are_read_and_no_change_is_claimed(real, directory):
    real.set(Mark.PENDING, NEW)
    real.set(Mark.STAGED, NEW)
    told = in_its_own_file_system(
        directory, 'mount --bind "$0" "$0"', 'mount -o remount,ro,bind "$0"'
    )
    unusable = "marks-unusable"
    assert told == {"set": unusable, "move": unusable, "remove": unusable, "read": "False"}
    assert real.read() == Marks(pending=NEW, staged=NEW)


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare here")
def test_on_a_full_disk_what_is_pending_can_still_be_decided(directory):
    """A new link needs an inode; a rename needs nothing."""
    directory.mkdir(parents=True)
    told = in_its_own_file_system(
        directory,
        # One inode for its root, two for the links.
        'mount -t tmpfs -o nr_inodes=3 tmpfs "$0"',
        f'ln -s {NEW} "$0/pending"',
        f'ln -s {NEW} "$0/staged"',
    )
    assert told == {"set": "marks-unusable", "move": "True", "remove": "None", "read": "True"}


RACE = """
import sys
from pathlib import Path
from agent.adapters.state.marks import MarkLinks
from agent.domain.marks import Mark
keeper = MarkLinks(Path(sys.argv[1]), Path("/nix/store"))
new = "/nix/store/" + "b" * 32 + "-nixos"
for _ in sys.stdin:
    print(keeper.move(Mark.PENDING, new, Mark(sys.argv[2])), flush=True)
"""


def test_of_two_processes_that_decide_at_once_exactly_one_does(real, directory):
    children = {
        end: subprocess.Popen(
            [sys.executable, "-P", "-c", RACE, str(directory), end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for end in (Mark.CONFIRMED, Mark.ROLLING_BACK)
    }
    try:
        for turn in range(100):
            real.set(Mark.PENDING, NEW)
            order = sorted(children, reverse=bool(turn % 2))
            for end in order:
                children[end].stdin.write(b"now\n")
                children[end].stdin.flush()
            told = {end for end in order if children[end].stdout.readline() == b"True\n"}
            assert len(told) == 1
            assert {mark for mark in Mark if path_of(real, mark) is not None} == told
            real.remove(told.pop())
    finally:
        for child in children.values():
            child.stdin.close()
            assert child.wait(timeout=60) == 0
            child.stdout.close()


def no_disk(keeper, monkeypatch):
    """Let the disk not say whether it keeps what is written."""
    if isinstance(keeper, WorldMarks):
        for mark in Mark:
            keeper.steps.lose(f"mark {mark}")
        return

    def refuse(_handle):
        raise REFUSED

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("kind", ["links", "fake"])
def test_a_mark_that_is_set_without_the_disks_promise_is_there_and_a_fault(
    kind, real, machine, monkeypatch
):
    keeper = real if kind == "links" else WorldMarks(Steps(), machine.clock)
    keeper.set(Mark.CONFIRMED, OLD)
    no_disk(keeper, monkeypatch)
    with pytest.raises(HostError):
        keeper.set(Mark.PENDING, NEW)
    assert keeper.read() == Marks(confirmed=OLD, pending=NEW)
    assert keeper.move(Mark.PENDING, NEW, Mark.CONFIRMED) is True
    assert keeper.read() == Marks(confirmed=NEW)
    keeper.remove(Mark.CONFIRMED)
    assert keeper.read() == Marks()


def test_a_change_that_was_made_is_no_failure_where_the_disk_cannot_promise_to_keep_it(
    directory, monkeypatch
):
    marks = MarkLinks(directory, STORE)
    marks.set(Mark.PENDING, NEW)

    def refuse(_handle):
        raise REFUSED

    monkeypatch.setattr(os, "fsync", refuse)
    assert marks.move(Mark.PENDING, NEW, Mark.CONFIRMED) is True
    assert marks.read() == Marks(confirmed=NEW)
    marks.remove(Mark.CONFIRMED)
    assert marks.read() == Marks()
    with pytest.raises(HostError):  # nothing has been done to the host yet
        marks.set(Mark.PENDING, NEW)


@pytest.fixture
def synced(directory, monkeypatch):
    """What has been synced to the disk: which file, and where the marks pointed by then."""
    found, sync = [], os.fsync

    def note(handle):
        file = Path(f"/proc/self/fd/{handle}").readlink()
        found.append((file, MarkLinks(directory, STORE).read()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    return found


def test_a_change_of_a_mark_is_on_the_disk_when_the_call_returns(real, directory, synced):
    real.set(Mark.CONFIRMED, OLD)
    assert synced.pop() == (directory, Marks(confirmed=OLD))
    real.set(Mark.STAGED, NEW)
    assert synced.pop() == (directory, Marks(confirmed=OLD, staged=NEW))
    assert real.move(Mark.STAGED, NEW, Mark.CONFIRMED)
    assert synced.pop() == (directory, Marks(confirmed=NEW))
    real.remove(Mark.CONFIRMED)
    assert synced.pop() == (directory, Marks())
    assert synced == []


def test_a_pending_mark_and_the_time_of_its_wait_are_on_the_disk(real, directory, synced):
    real.set(Mark.PENDING, NEW)
    assert [file for file, _ in synced] == [directory, directory / ".pending-for.new"]


def test_the_name_of_a_specialisation_is_on_the_disk_before_it_counts(real, directory, synced):
    real.note_specialisation("lan")
    names, synced[:] = [file.name for file, _ in synced], []
    assert names == [".specialisation.new", directory.name]
    real.note_specialisation(None)
    assert [file for file, _ in synced] == [directory]
