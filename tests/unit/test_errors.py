from __future__ import annotations

from agent.domain.errors import AgentError, ConfigError, ExitCode, Kind


def test_no_two_kinds_mean_the_same():
    meanings = [kind.meaning for kind in Kind]
    assert len(set(meanings)) == len(meanings)


def test_an_error_tells_what_and_what_to_do():
    error = AgentError(Kind.HYDRA_REFUSED, "nobody listens", hint="is it up?", retry_after=3.0)
    assert str(error) == "nobody listens (is it up?)"
    assert str(AgentError(Kind.HYDRA_REFUSED, "nobody listens")) == "nobody listens"
    assert error.exit_code is ExitCode.UNREACHABLE
    assert error.is_retryable
    assert error.retry_after == 3.0


def test_a_fault_that_cannot_pass_is_not_retried():
    assert not AgentError(Kind.HYDRA_UNAUTHORISED, "no").is_retryable


def test_a_configuration_error_carries_every_problem():
    problems = (("hydra.job", "is required"),)
    assert ConfigError(Kind.CONFIG_INVALID, "x", problems=problems).problems == problems
