"""What nix, git and ssh say of a source that they could not have: recorded, of nix 2.8 and newer."""

from __future__ import annotations

import pytest

from agent.adapters.nix.source_faults import cause_of, complaint, hint_for, unreachable_source

GIT_FAILED = (
    "error: program 'git' failed with exit code 128\n(use '--show-trace' to show details)\n"
)
RIGHTS = "\nPlease make sure you have the correct access rights\nand the repository exists.\n"
NO_READ = f"fatal: Could not read from remote repository.\n{RIGHTS}"
LIMITED = (
    '{"message":"API rate limit exceeded for 192.0.2.1. (But here\'s the good news: Authenticated'
    ' requests get a higher rate limit.)","documentation_url":"https://docs.github.com/rest"}'
)


def download(status: str, body: str = "", url: str = "https://api.github.com/repos/o/r") -> str:
    below = f"\n\n       response body:\n\n       {body}\n" if body else "\n"
    return f"error: unable to download '{url}': HTTP error {status}{below}(use '--show-trace')\n"


def newer(error: str, about: str = "github:o/r/main") -> str:
    inner = error.replace("\n", "\n       ")
    return (
        f"error:\n       … while updating the lock file of flake 'git+file:///f'\n\n"
        f"       … while fetching the input '{about}'\n\n       {inner}\n"
    )


REFUSED = f"ssh: connect to host 127.0.0.1 port 22: Connection refused\n{NO_READ}"
CHANGED = (
    f"{'@' * 59}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{'@' * 59}\n"
    "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\n"
    "Offending ED25519 key in /root/.ssh/known_hosts:1\n"
    "Host key for forge has changed and you have requested strict checking.\n"
    f"Host key verification failed.\n{NO_READ}"
)
DENIED = f"git@forge: Permission denied (publickey,keyboard-interactive).\n{NO_READ}"
OUTDATED = (
    "warning: could not update local clone of Git repository 'ssh://forge/r';"
    " continuing with the most recent version\n"
)
LOST = "error: Cannot find Git revision '2222' in ref 'main' of repository 'ssh://forge/r'!"

FAR = {
    "ssh: refused": (REFUSED + GIT_FAILED, "ssh: connect to host 127.0.0.1 port 22: Conn", ""),
    "ssh: no name": (
        f"ssh: Could not resolve hostname forge: Name or service not known\n{NO_READ}{GIT_FAILED}",
        "ssh: Could not resolve hostname forge: Name or service not known program 'git' failed",
        "",
    ),
    "ssh: no route": (
        newer(
            f"{REFUSED.replace('Connection refused', 'No route to host')}error: Failed to fetch"
            " git repository 'ssh://forge/r'",
            "git+ssh://forge/r",
        ),
        "while fetching the input 'git+ssh://forge/r': ssh: connect to host 127.0.0.1 port 22: No",
        "",
    ),
    "ssh: closed": (
        (
            f"kex_exchange_identification: Connection closed by remote host\n"
            f"Connection closed by 192.0.2.1 port 22\n{NO_READ}{GIT_FAILED}"
        ),
        "kex_exchange_identification: Connection closed by remote host Connection closed by",
        "",
    ),
    "ssh: cached, but not this revision": (
        REFUSED + OUTDATED + LOST,
        "Connection refused Cannot find Git revision '2222'",
        "",
    ),
    "git: refused": (
        (
            "fatal: unable to access 'http://f/x.git/': Failed to connect to f port 1 after 0 ms:"
            f" Couldn't connect to server\n{GIT_FAILED}"
        ),
        "Couldn't connect to server program 'git' failed with exit code 128",
        "",
    ),
    "git: 503": (
        (
            "remote: down for maintenance until 05:00\n"
            f"fatal: unable to access 'http://f/x.git/': The requested URL returned error: 503\n{GIT_FAILED}"
        ),
        "remote: down for maintenance until 05:00 fatal: unable to access",
        "",
    ),
    "git: 429": (
        f"fatal: unable to access 'https://f/x/': The requested URL returned error: 429\n{GIT_FAILED}",
        "error: 429",
        "less",
    ),
    "git: cut off": (
        f"error: RPC failed; curl 18 transfer closed\nfatal: early EOF\n{GIT_FAILED}",
        "error: RPC failed; curl 18 transfer closed fatal: early EOF",
        "",
    ),
    "nix: GitHub's limit": (
        download("403 ('Forbidden')", LIMITED),
        "HTTP error 403 ('Forbidden') (API rate limit exceeded for 192.0.2.1. (But here's",
        "access-tokens",
    ),
    "newer nix: GitHub's limit": (
        newer(download("403", LIMITED)),
        (
            "while fetching the input 'github:o/r/main': unable to download"
            " 'https://api.github.com/repos/o/r': HTTP error 403 (API rate limit exceeded"
        ),
        "access-tokens",
    ),
    "nix: GitLab's limit": (
        download("429", "Retry later", "https://gitlab.com/api/v4/x"),
        "HTTP error 429 (Retry later)",
        "access-tokens",
    ),
    "nix: 503": (
        download("503 ('Service Unavailable')", "<html><h1>We are down</h1>\n</html>"),
        "HTTP error 503 ('Service Unavailable') (We are down)",
        "",
    ),
    "nix: 500": (download("500"), "HTTP error 500", ""),
    "nix: refused": (
        "error: unable to download 'https://f/x.tar.gz': Couldn't connect to server (7)\n",
        "Couldn't connect to server (7)",
        "",
    ),
}
NOT_FAR = {
    "ssh: unknown host": (
        (
            f"No ED25519 host key is known for forge and you have requested strict checking.\n"
            f"Host key verification failed.\n{NO_READ}{GIT_FAILED}"
        ),
        "No ED25519 host key is known for forge",
        "known_hosts",
    ),
    "ssh: unknown host, quietly": (
        f"Host key verification failed.\n{NO_READ}{GIT_FAILED}",
        "Host key verification failed. program 'git' failed with exit code 128",
        "known_hosts",
    ),
    "ssh: another key": (
        CHANGED + GIT_FAILED,
        "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! Host key for forge has changed and",
        "new key on purpose",
    ),
    "ssh: denied": (
        DENIED + GIT_FAILED,
        "git@forge: Permission denied (publickey,keyboard-interactive). program 'git' failed",
        "ssh key",
    ),
    "ssh: denied, and hung up on": (
        (
            f"Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures\n"
            f"Disconnected from 192.0.2.1 port 22\n{NO_READ}{GIT_FAILED}"
        ),
        "Too many authentication failures",
        "ssh key",
    ),
    "ssh: GitHub has no such repository": (
        f"ERROR: Repository not found.\n{NO_READ}{GIT_FAILED}",
        "ERROR: Repository not found. program 'git' failed",
        "login",
    ),
    "ssh: GitLab has no such project": (
        (
            "remote: \nremote: ====================\nremote: \nremote: ERROR: The project you were looking"
            " for could not be found or you don't have permission to view it.\nremote: \n"
            f"remote: ====================\nremote: \n{NO_READ}{GIT_FAILED}"
        ),
        (
            "remote: ERROR: The project you were looking for could not be found or you don't have"
            " permission to view it. program 'git' failed"
        ),
        "login",
    ),
    "ssh: no such directory": (
        f"fatal: '/srv/nope' does not appear to be a git repository\n{NO_READ}{GIT_FAILED}",
        "fatal: '/srv/nope' does not appear to be a git repository program 'git' failed",
        "",
    ),
    "git: no such branch": (
        (
            f"fatal: couldn't find remote ref refs/heads/nope\n{GIT_FAILED}"
            "fatal: the remote end hung up unexpectedly\n"
        ),
        "fatal: couldn't find remote ref refs/heads/nope program 'git' failed with exit code 128",
        "",
    ),
    "nix: no such revision": (LOST, "Cannot find Git revision '2222' in ref 'main'", ""),
    "git: 403": (
        (
            "remote: Access denied by policy\nfatal: unable to access 'https://f/x.git/': The requested"
            f" URL returned error: 403\n{GIT_FAILED}"
        ),
        "remote: Access denied by policy fatal: unable to access",
        "login",
    ),
    "git: 401": (
        "fatal: could not read Username for 'https://github.com': terminal prompts disabled\n"
        + GIT_FAILED,
        "terminal prompts disabled program 'git' failed",
        "access-tokens",
    ),
    "git: 404": (
        f"fatal: repository 'http://f/404.git/' not found\n{GIT_FAILED}",
        "fatal: repository 'http://f/404.git/' not found",
        "login",
    ),
    "nix: 404": (
        newer(download("404", '{"message":"Not Found"}')),
        "HTTP error 404 (Not Found)",
        "access-tokens",
    ),
    "nix: 401": (
        download("401 ('Unauthorized')", '{"message":"Bad credentials"}'),
        "HTTP error 401 ('Unauthorized') (Bad credentials)",
        "access-tokens",
    ),
    "nix: 401 of another server": (
        download("401", "", "https://f.example.org/x.tar.gz"),
        "HTTP error 401",
        "netrc",
    ),
    "an error of the code, beside a copy that could not be brought up to date": (
        REFUSED + OUTDATED + "error: undefined variable 'x'\n       at /x.nix:1:1:\n",
        "undefined variable 'x'",
        "",
    ),
    "an error of the code, beside a registry that is far": (
        (
            "warning: unable to download 'https://r/x.json': Couldn't resolve host name (6)\n"
            "error: undefined variable 'x'\n"
        ),
        "undefined variable 'x'",
        "",
    ),
    "an error of the code that talks of networks": (
        newer("error: assertion failed: Connection refused, No route to host"),
        "assertion failed: Connection refused, No route to host",
        "",
    ),
}


@pytest.mark.parametrize("case", FAR)
def test_what_the_network_or_a_server_in_trouble_keeps_from_nix_is_unreachable(case):
    text, words, hint = FAR[case]
    assert unreachable_source(text)
    assert words in complaint(text)
    assert hint in hint_for(text)
    assert bool(hint) == bool(hint_for(text))


@pytest.mark.parametrize("case", NOT_FAR)
def test_what_a_server_or_nix_itself_refuses_is_not_unreachable(case):
    text, words, hint = NOT_FAR[case]
    assert unreachable_source(text) == ""
    assert words in complaint(text)
    assert "Please make sure" not in complaint(text)
    assert hint in hint_for(text)


def test_an_answers_body_is_bounded_and_its_message_is_found():
    assert complaint(download("503", "x" * 5000)).endswith("x…)")
    assert complaint(download("503", '{"error":"gone"}')).endswith("(gone)")
    assert complaint(download("503", '{"other":1}')).endswith('({"other":1})')
    assert complaint(download("503", "[" * 5000)).endswith("[…)")


def test_a_caches_line_keeps_what_the_cache_has_answered():
    line = "unable to download 'http://c/nix-cache-info': HTTP error 503 ('Service Unavailable')"
    text = (
        f"warning: {line}\n\n         response body:\n\n         restarting\nerror: path is gone\n"
    )
    assert cause_of(line, text) == f"{line} (restarting)"
    assert cause_of(line, f"warning: {line}\nerror: path is gone\n") == line
