# `make demo` shows the agent at work, `make test` proves it; both set up what they need.
.POSIX:
.PHONY: setup host sshd demo test test-long lint unit docs format clean

VENV = .venv/bin
PYTEST_ARGS =
# Compiled modules are kept, whatever the environment says: to compile them costs more than to load them.
PYTEST = PYTHONDONTWRITEBYTECODE= $(VENV)/pytest --numprocesses 3 --dist worksteal
# Hundreds of small stores are made and thrown away: in memory, where there is room for them.
IN_MEMORY = MEMORY=$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }'); \
	[ "$${MEMORY:-0}" -lt 2000000 ] || [ -n "$${TMPDIR-}" ] || export TMPDIR=/dev/shm

# On NixOS everything comes from the flake instead.
NIXOS_MARK = /etc/NIXOS
ON_NIXOS = [ -e $(NIXOS_MARK) ] && command -v nix >/dev/null
NIX = nix --extra-experimental-features 'nix-command flakes'

SSHD_IF_DEBIAN = { sh .ci/sshd || [ -z "$${CI-}" ]; }
HOST_IF_ROOT = { [ "$$(id -u)" != 0 ] || sh .ci/host || [ -z "$${CI-}" ]; }

setup:
	@sh .ci/setup

# A root from which tests boot real hosts. Where none can be made those tests skip, but not in CI.
host: setup
	@sh .ci/host

# A server for pushes over SSH on loopback. Where none can be had those tests skip, but not in CI.
sshd:
	@sh .ci/sshd

demo:
	@if $(ON_NIXOS); then exec $(NIX) run .#demo; else sh .ci/setup && exec $(VENV)/agent demo; fi

test:
	@if $(ON_NIXOS); then exec $(NIX) flake check; else \
		sh .ci/setup && $(SSHD_IF_DEBIAN) && $(HOST_IF_ROOT) && $(MAKE) lint unit; fi

# What takes too long to be done each time, the agent killed at each of its steps above all. A host waits
# half of the time, so there are more of them than processors.
test-long: host
	$(IN_MEMORY); $(PYTEST) -m long $(PYTEST_ARGS)

lint:
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports --no-cache
	$(VENV)/codespell
	$(VENV)/python docs/generate.py --check

# The unit tests cover the pure core whole; what all tests cover is for .ci/run. The others run programs and
# hosts, which are waited for: there are more of them at work than the two processors that are reckoned with.
# Each process collects all tests, so that the unit tests, which wait for nothing, have two.
unit:
	@$(VENV)/python -m compileall -q agent
	$(IN_MEMORY); $(PYTEST) --numprocesses 2 -m 'not long' --cov --cov-report= tests/unit $(PYTEST_ARGS)
	$(VENV)/coverage report --include='agent/domain/*' --fail-under=100
	$(VENV)/coverage report --include='agent/application/*' --fail-under=100
	$(IN_MEMORY); $(PYTEST) -m 'not long' --cov --cov-append --cov-report= --ignore=tests/unit $(PYTEST_ARGS)

docs:
	$(VENV)/python docs/generate.py

format:
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

clean:
	rm -rf .venv build .coverage .mypy_cache .pytest_cache .ruff_cache
