"""What an evaluation's error text says of which job."""

# ruff: noqa: RUF001 - Hydra's and nix's own quotation marks

from __future__ import annotations

import pytest

from agent.domain.evaluation import EvaluationErrors, parse_evaluation_errors

TRACE = """\
error:
       … while calling the 'derivationStrict' builtin
         at <nix/derivation-internal.nix>:37:12:
           36|
           37|   strict = derivationStrict drvAttrs;
             |            ^

       … while evaluating the option `services.nginx.enable':

       (stack trace truncated; use '--show-trace' to show the full, detailed trace)

       error: attribute 'ngnix' missing
       at /nix/store/abc-source/web.nix:3:5:
            2| {
            3|   throw "error: not this";
             |   ^
       Did you mean nginx?
"""
ASSERTIONS = """\
error:
       … while evaluating

       error:
       Failed assertions:
       - The ‘fileSystems’ option does not specify a root.
       - another
"""
FLAKE = "'nix flake metadata' returned exit code 1:\n"


def section(job, text, quotes="‘’"):
    return f"in job {quotes[0]}{job}{quotes[-1]}:\n{text}\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", ""),
        ("\n \n", ""),
        ("nix-eval-jobs returned exit code 1", "nix-eval-jobs returned exit code 1"),
        ("nix-eval-jobs returned exit code 1:", "nix-eval-jobs returned exit code 1:"),
        (f"{FLAKE}error: unable to download 'x'", "error: unable to download 'x'"),
        (f"{FLAKE}warning: dirty\nfatal: no such ref", "fatal: no such ref"),
        (f"{FLAKE}warning: dirty", "'nix flake metadata' returned exit code 1:"),
        ("warning: dirty", "warning: dirty"),
        ("process ended prematurely at x line 409.\n", "process ended prematurely at x line 409."),
        (FLAKE + TRACE, "error: attribute 'ngnix' missing"),
        (ASSERTIONS, "error: Failed assertions: - The ‘fileSystems’ option does not specify a root."),
        ("error: builder said:\n  it broke", "error: builder said: it broke"),
        ("error: the end:", "error: the end:"),
        ("error: real\nerror:\n", "error: real"),
        ("error:\n   … while\n   at /nix/x.nix:1:2:", "error:"),
        ("\x1b[31;1merror:\x1b[0m\n   \x1b[31;1merror:\x1b[0m no \x1b[35;1m'x'\x1b[0m", "error: no 'x'"),
        ("\x1b]8;;https://x\x1b\\error: linked\x1b]8;;\x07", "error: linked"),
        ("\x9b1merror: eight bits\x9b0m\r\n", "error: eight bits"),
        ("at top-level:\nerror: no attribute set", "error: no attribute set"),
        (f"error: {'x' * 900}", f"error: {'x' * 493}"),
        ("x" * 900, "x" * 500),
    ],
)  # fmt: skip
def test_the_error_of_a_whole_evaluation_is_its_innermost(text, error):
    errors = parse_evaluation_errors(text)
    assert errors == EvaluationErrors(error)
    assert errors.concerning("alpha") == errors.first == error
    assert errors.of_job("alpha") == ""


@pytest.mark.parametrize("quotes", ["‘’", "''", '""', "“”", "`'", "``", [""]])
def test_each_section_is_of_its_own_job_however_it_is_quoted(quotes):
    text = section("beta", "error: of beta", quotes) + section("alpha", TRACE, quotes)
    errors = parse_evaluation_errors(text)
    assert errors.general == ""
    assert errors.of_job("alpha") == "error: attribute 'ngnix' missing"
    assert errors.of_job("beta") == errors.concerning("beta") == "error: of beta"
    assert errors.concerning("gamma") == ""
    assert errors.first == "beta: error: of beta"


@pytest.mark.parametrize(
    ("section_of", "job", "is_of_it"),
    [
        ('"web-1.example.org"', '"web-1.example.org"', True),
        ("web-1.example.org", '"web-1.example.org"', True),
        ('"web-1.example.org"', '"web-1"', False),
        ("nixos", "nixos.alpha", True),
        ("nixos.alpha", "nixos.alpha", True),
        ("nixos.alpha.x86_64-linux", "nixos.alpha", False),
        ("nixos.beta", "nixos.alpha", False),
        ("alpha", "alpha2", False),
        ("alpha2", "alpha", False),
        ('nixos."a.b"', 'nixos."a.b"', True),
        (".", "alpha", False),
    ],
)
def test_a_section_of_an_attribute_set_is_of_every_job_in_it(section_of, job, is_of_it):
    errors = parse_evaluation_errors(section(section_of, "error: broken"))
    assert errors.of_job(job) == ("error: broken" if is_of_it else "")


def test_the_error_may_be_in_the_line_of_the_header():
    errors = parse_evaluation_errors("in job ‘alpha’: error: attribute 'x': missing\n")
    assert errors.of_job("alpha") == "error: attribute 'x': missing"


def test_a_section_without_words_is_an_error_all_the_same():
    assert parse_evaluation_errors("in job ‘alpha’:\n").of_job("alpha") == "error"


def test_what_stands_before_the_sections_is_of_all_jobs_and_a_jobs_own_comes_first():
    errors = parse_evaluation_errors("error: no memory\n" + section("alpha", "error: own"))
    assert errors.concerning("beta") == "error: no memory"
    assert errors.concerning("alpha") == "error: own"


def test_where_the_flake_cannot_be_fetched_that_is_the_error():
    errors = parse_evaluation_errors(section("alpha", "error: old"), "fatal: no such host")
    assert errors == EvaluationErrors("fatal: no such host")


def test_the_error_of_an_aggregate_is_of_no_other_job():
    line = "aggregate job ‘tested’ failed with the error: alpha: does not exist\n"
    for text in (line, f"in job ‘tested’:\n{line}", "in job ‘tested’:\nalpha: does not exist"):
        errors = parse_evaluation_errors(text)
        assert errors == EvaluationErrors("", (("tested", "alpha: does not exist"),))
        assert errors.concerning("alpha") == ""
