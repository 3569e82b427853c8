from __future__ import annotations

import pytest

from agent.domain.switch_output import (
    Refusal,
    exit_code,
    failed_check,
    has_begun,
    has_broken_off,
    is_relevant,
    last_words,
    refusal,
    with_relevant_lines,
)

STC = "/nix/store/x-nixos-system-h/bin/switch-to-configuration"
RUN = f"Command 'systemd-run -E LOCALE_ARCHIVE --unit=nixos-rebuild-switch-to-configuration {STC}"
STATUS = RUN + " switch' returned non-zero exit status {}."
SHELL = "warning: error(s) occurred while switching to the new configuration"
UNITS = "warning: the following units failed: a.service, b.service"
JOURNAL = """\
* a.service - A
     Loaded: loaded (/etc/systemd/system/a.service; enabled)
Nov 30 10:00:00 h a[7]: Failed to run activate script
Nov 30 10:00:00 h systemd[1]: Failed to start A."""


@pytest.mark.parametrize(
    ("returncode", "tail", "code"),
    [
        (4, "", 4),
        (1, "x", 1),
        (11, STATUS.format(11), 11),
        (1, STATUS.format(11), 11),  # early ones end with 1 and name the status all the same
        (
            1,
            f"Command '['systemd-run', '{STC}', 'switch']' returned non-zero exit status 100.",
            100,
        ),
        (247, f"{RUN} switch' died with <Signals.SIGKILL: 9>.", -9),
        (1, f"{RUN} switch' died with unknown signal 40.", -40),
        (1, f"{STATUS.format(2)}\nmore", 2),  # another program else has the last word
        (4, f"Command 'nix build' returned non-zero exit status 1.\n{UNITS}", 4),
        (1, f"Could not acquire lock\n{SHELL}", 11),
        (1, f"activating the configuration...\nCould not acquire lock\n{SHELL}", 1),
        (1, f"Failed to run activate script\n{UNITS}\n{JOURNAL}\n{SHELL}", 4),
        (1, f"warning: user activation for eve failed\n{SHELL}", 4),
        (1, f"activating the configuration...\nFailed to run activate script\n{SHELL}", 2),
        (1, f"Failed to install bootloader\n{SHELL}", 1),
        (1, f"{JOURNAL}\n{SHELL}", 1),
    ],
)
def test_the_exit_code_is_switch_to_configurations_own(returncode, tail, code):
    assert exit_code(returncode, tail) == code


UNIT = "Unit nixos-rebuild-switch-to-configuration.service"


@pytest.mark.parametrize(
    ("code", "tail", "why"),
    [
        (11, "Could not acquire lock", Refusal.BUSY),
        (11, f"Could not acquire lock\n{STATUS.format(11)}", Refusal.BUSY),
        (11, "Could not acquire lock at /nix/store/x/bin/switch-to-configuration line 90.", "busy"),
        (
            1,
            (
                f"Failed to start transient service unit: {UNIT} was already loaded or has a fragment"
                f" file.\n{STATUS.format(1)}"
            ),
            Refusal.BUSY,
        ),
        (2, "This is not a NixOS installation!", Refusal.NOT_NIXOS),
        (1, "This is not a NixOS installation!\n" + STATUS.format(1), Refusal.NOT_NIXOS),
        (1, "Pre-switch check 'a' failed\nPre-switch checks failed", Refusal.CHECK),
        (1, "Pre-switch checks failed", Refusal.CHECK),
        (30, "Could not open lock", Refusal.UNSTARTED),
        (1, "Failed to start transient service unit: Connection timed out", Refusal.UNSTARTED),
        (1, "Error: switch-to-configuration must be run as the root user", Refusal.UNSTARTED),
        (0, "Could not acquire lock", None),
        (11, "", None),
        (2, "", None),
        (2, "Could not acquire lock", None),
        (1, "Failed to install bootloader", None),
        (11, "stopping the following units: a.service\nCould not acquire lock", None),
        (2, "activating the configuration...\nThis is not a NixOS installation!", None),
        (1, "stopping swap device: /dev/x\nPre-switch checks failed", None),
        (11, "Nov 30 10:00:00 h apt[7]: Could not acquire lock", None),
        (2, "Unable to list users with logind: No such file or directory", None),
    ],
)
def test_an_activation_was_refused_only_if_it_says_so_and_says_nothing_of_a_beginning(
    code, tail, why
):
    assert refusal(code, tail) == why


def test_a_check_that_refuses_has_a_name():
    assert failed_check("Pre-switch check 'a b' failed\nPre-switch checks failed") == "a b"
    assert failed_check("Pre-switch checks failed") == ""


def test_that_it_has_begun_or_broken_off_is_read_from_lines_of_their_own():
    assert has_begun("  activating the configuration...  ")
    assert not has_begun("would activate the configuration...")
    assert has_broken_off("Error: Failed to reload")
    assert not has_broken_off("Nov 30 h a[1]: Error: no")


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("", ""),
        ("x\n\n  y  \n", "y"),
        (STATUS.format(4), ""),
        (RUN[:-20], ""),  # a line that was cut
        (f"{UNITS}\n{JOURNAL}\n{STATUS.format(4)}", UNITS),
        (f"{UNITS}\n{JOURNAL}\n{SHELL}", UNITS),
        (
            (
                f"Activation script snippet 'etc' failed (1)\nFailed to run activate script\n"
                f"restarting sysinit-reactivation.target\n{STATUS.format(2)}"
            ),
            "Activation script snippet 'etc' failed (1); Failed to run activate script",
        ),
        (f"x\nFailed to install bootloader\n{STATUS.format(1)}", "Failed to install bootloader"),
        (
            (
                f"a : b -> c\n\nPre-switch check 'switchInhibitors' failed\nPre-switch checks failed\n"
                f"{STATUS.format(1)}"
            ),
            "Pre-switch check 'switchInhibitors' failed",
        ),
        (
            (
                "activating the configuration...\n"
                "error: while running command with remote sudo, did you forget to use --ask?\n"
                f"{STATUS.format(255)}"
            ),
            "activating the configuration...",
        ),
        (
            (
                f"Error: Failed to reset failed units\n\nCaused by:\n    0: it is\n    1: gone\n"
                f"{STATUS.format(1)}"
            ),
            "Error: Failed to reset failed units: it is: gone",
        ),
        (f"Error: alone\n{UNITS}", f"Error: alone; {UNITS}"),
        (f"Error: one\nCaused by:\nno\n{UNITS}", f"Error: one: no; {UNITS}"),
        (f"Failed to start a.service\n{UNITS}", f"Failed to start a.service; {UNITS}"),
        ("Error: alone\nsomething else\nof a unit", "Error: alone"),
        (
            f"Failed to start a.service\nCaused by:\nno\n{UNITS}",
            f"Failed to start a.service; {UNITS}",
        ),
    ],
)
def test_its_last_words_are_its_own_and_not_those_around_it(tail, words):
    assert last_words(tail) == words


def test_what_counts_is_kept_however_long_the_output_is():
    assert is_relevant("activating the configuration...\r")
    assert not is_relevant("setting up /etc...")
    heard = ("activating the configuration...", UNITS)
    assert with_relevant_lines(heard, f"x\n{UNITS}\ny") == f"{heard[0]}\nx\n{UNITS}\ny"


CLOSING = "Command 'systemd-run x/bin/switch-to-configuration switch' returned non-zero exit status"


@pytest.mark.parametrize(
    ("returncode", "tail", "code"),
    [
        (1, f"{CLOSING} 4.\nwarning: the Git tree is dirty", 4),
        (1, f"{CLOSING} 4.\nTraceback (most recent call last):\n  x\n\N{REPLACEMENT CHARACTER}", 4),
        (1, f"{CLOSING} 4.\n{CLOSING} 2.\nbye", 2),
        (1, f"{CLOSING} 4.\nFailed to run activate script\nbye", 1),
        (2, f"{CLOSING} 4.\nbye", 2),
        (1, f"{SHELL}\nbye", 1),
        (
            1,
            f"Failed to run activate script\n{SHELL}\nbye",
            2,
        ),
    ],
)
def test_what_others_say_after_nixos_rebuild_hides_no_exit_code(returncode, tail, code):
    assert exit_code(returncode, tail) == code


def test_the_closing_line_is_kept_however_much_follows():
    closing = f"{CLOSING} 4."
    assert is_relevant(f"{closing}\n")
    assert exit_code(1, with_relevant_lines([closing], "bye\n" * 100)) == 4
