def begin() -> str:
    """Start both machines, let the one trust the other's key, and return the first system."""
    hydra.start()
    machine.start()
    for one in (hydra, machine):
        one.wait_for_unit("multi-user.target")
    hydra.succeed("mkdir -p /var/lib/hydra")
    hydra.succeed("nix-store --generate-binary-cache-key hydra-1 /var/lib/hydra/{key,key.pub}")
    key = hydra.succeed("cat /var/lib/hydra/key.pub").strip()
    machine.succeed(f"echo 'extra-trusted-public-keys = {key}' > /var/lib/hydra-key.conf")
    machine.succeed("systemctl restart nix-daemon.service")
    return running()


def build(name: str) -> str:
    """Let Hydra build a release, with its closure in the cache, and return its path."""
    path = RELEASES[name]
    store = "file:///var/lib/hydra/cache?compression=none&secret-key=/var/lib/hydra/key"
    hydra.succeed(f"nix copy --to '{store}' {path}")
    hydra.succeed(f"echo {path} >> /var/lib/hydra/builds")
    hydra.succeed("systemctl restart hydra.service")
    hydra.wait_for_open_port(3000)
    return path


def running() -> str:
    """Return the running system."""
    return machine.succeed("readlink -f /run/current-system").strip()


def profile() -> str:
    """Return the system profile's newest generation."""
    return machine.succeed("readlink -f /nix/var/nix/profiles/system").strip()


def wait_until_confirmed(path: str) -> None:
    """Wait until the agent has marked a system as confirmed."""
    machine.wait_until_succeeds(f"[ $(readlink -f {MARKS}/confirmed) = {path} ]")


def wait_until_denied(path: str) -> None:
    """Wait until the agent has denied a system, and see that a run then holds."""
    machine.wait_until_succeeds(f"agent history | grep -F 'denied  {path}'")
    expect_hold()


def expect_hold() -> None:
    """Run the agent, and see that it holds."""
    machine.succeed("code=0; agent upgrade || code=$?; [ $code = 75 ]")


def start_again() -> None:
    """See the machine go down by itself, and start it again with its disk and EFI variables."""
    machine.wait_for_shutdown()
    machine.start()
    machine.wait_for_unit("multi-user.target")
