"""Configurations of hosts that import the module: the first users', the least, and one of everything."""

from __future__ import annotations

SEED = """
{
  system.autoUpgradeHydra = {
    enable = true;
    operation = "boot";
    host = "hostname";
    hydra = {
      instance = "https://your.hydra.example.com";
      project = "nix-config";
      jobset = "main";
      job = "hostname";
    };
    healthChecks = {
      canaryHosts = [
        # dependent service hostnames, urls, or ip addresses
        "yourcanaryhostname"
      ];
    };
    flags = [
      # any extra options you want to pass to `nixos-rebuild`
    ];
    # systemd.time#CALENDAR EVENTS
    dates = "*-*-* 04:40:00";
    allowReboot = false;
  };
}
"""

# As a host's other modules would set it: what a case says wins.
LEAST = """
({ lib, ... }: {
  system.autoUpgradeHydra = lib.mkDefault {
    enable = true;
    hydra = { instance = "https://hydra.example.org"; project = "p"; jobset = "j"; };
  };
})
"""

EVERYTHING = """
{
  time.timeZone = "Europe/Berlin";
  networking.proxy.envVars.https_proxy = "http://proxy.example.org:3128";
  boot.loader.grub.enable = true;
  system.autoUpgradeHydra = {
    enable = true;
    strategy = "flake";
    hydra = { instance = "https://hydra.example.org/sub"; project = "p"; jobset = "j"; };
    fetch = {
      substituters = [ "https://cache.example.org" ];
      trustedPublicKeys = [ "cache.example.org-1:AAAA" ];
      localBuilds = true;
    };
    healthChecks = {
      canaryHosts = [ "gateway" "192.0.2.1" "fe80::1%eth0" "https://wiki.example.org" ];
      checks = [ { type = "icmp"; host = "db"; count = 5; required_replies = 2; wanted = true; } ];
    };
    confirm.checks = [
      { type = "unit"; unit = "nginx.service"; }
      { type = "http"; url = "https://localhost/"; status = [ 200 "301-302" ]; body = "\\"a\\\\b"; }
      { type = "tcp"; host = "localhost"; port = 443; timeout = 2.5; }
      { type = "dns"; host = "example.org"; addresses = [ "192.0.2.1" ]; }
      { type = "command"; command = [ "true" ]; name = "true"; }
    ];
    allowReboot = true;
    rebootWindow = { lower = "23:00"; upper = "01:30"; };
    rebootWindows = [ { days = [ "sat" "sun" ]; start = "03:00"; length = "3h"; } ];
    upgradeWindows = [ { start = "20:00"; length = "8h"; timeZone = "America/Lima"; } ];
    reboot.splay = "30m";
    runGarbageCollection = true;
    onBootSec = "15min";
    onlyOnACPower = true;
    credentials = { netrc = "/run/secrets/netrc"; ssh-key = "/run/secrets/key"; own = "/run/own"; };
    environmentFile = "/run/secrets/environment";
    settings.log.level = "debug";
  };
}
"""


def with_options(text: str, others: str = "") -> str:
    """Return the least configuration with more options of the module, and `others`, in Nix."""
    return f"{{ imports = [ {LEAST} {{ system.autoUpgradeHydra = {{ {text} }}; }} ]; {others} }}"
