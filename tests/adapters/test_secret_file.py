from __future__ import annotations

import os

import pytest

from agent.adapters.secret_file import read_secret, read_secrets
from agent.domain.errors import ConfigError, Kind


@pytest.fixture
def write(tmp_path):
    def written(content, mode=0o400):
        path = tmp_path / "secret"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return written


def fault_of(function, path):
    with pytest.raises(ConfigError) as caught:
        function(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_token_is_the_one_line_of_its_file(write, mode):
    assert read_secret(write(b"t0ken\n", mode)) == "t0ken"


def test_a_link_to_a_file_is_followed(write, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(write(b"t0ken"))
    assert read_secret(link) == "t0ken"


def test_lines_are_read_without_comments_and_empty_ones(write):
    path = write(b"# who is told\n\n  ntfy://a/b \nmailto://c?to=d e\n")
    assert read_secrets(path) == ("ntfy://a/b", "mailto://c?to=d e")


@pytest.mark.parametrize("mode", [0o444, 0o604, 0o644, 0o646])
def test_what_everybody_may_read_is_no_secret(write, mode):
    error = fault_of(read_secret, write(b"t0ken", mode))
    assert error.kind is Kind.SECRET_EXPOSED
    assert f"{mode:04o}" in error.message
    assert "chmod" in error.hint


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert fault_of(read_secret, tmp_path / "none").kind is Kind.SECRET_MISSING


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"# only a comment", b"two words", b"two\nlines", "tökén".encode(), b"a\x1bb",
     b"\xff\xfe", b"x" * (64 * 1024 + 1)],
    ids=["empty", "blank", "comment", "words", "lines", "umlaut", "control", "binary", "large"],
)  # fmt: skip
def test_what_holds_no_token_is_told_and_not_quoted(write, content):
    error = fault_of(read_secret, write(content))
    assert error.kind is Kind.SECRET_UNUSABLE
    assert "two" not in str(error)


def test_a_directory_and_a_pipe_are_no_files(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (tmp_path, pipe):
        assert fault_of(read_secret, path).kind is Kind.SECRET_UNUSABLE
