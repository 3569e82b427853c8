# Hardening of the services that use the network. They replace the system, so this only takes away what
# no upgrade needs. Activations are not affected, since switch-to-configuration
# runs in a transient unit of its own.
#
# Left out, and why:
#   ProtectSystem, ReadOnlyPaths    profiles, the store, /boot and the boot loader's files are written
#   ProtectHome                     nix and git keep their caches in /root
#   ProtectKernelTunables           `bootctl set-oneshot` writes an EFI variable below /sys
#   PrivateDevices, ProtectClock    `bootctl` reads the boot partition's device
#   PrivateNetwork, IPAddressDeny   Hydra, caches, forges and canaries may have any address
#   RestrictNamespaces, PrivateUsers
#                                   nix makes /nix/store writable in a mount namespace of its own
#   ProtectProc                     nix looks in /proc for store paths in use before it deletes any
#   PrivateTmp, NoNewPrivileges, RestrictSUIDSGID, MemoryDenyWriteExecute
#                                   checks of type `command` may run any program: it may need a socket
#                                   in /tmp, use sudo, or compile code at run time
{ mayBuild }:
{
  CapabilityBoundingSet = "~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_BLOCK_SUSPEND CAP_IPC_LOCK CAP_LEASE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_PACCT CAP_SYS_RAWIO CAP_SYS_TIME CAP_SYSLOG CAP_WAKE_ALARM";
  ProtectKernelLogs = true;
  ProtectKernelModules = true;
  RestrictAddressFamilies = [
    "AF_UNIX"
    "AF_INET"
    "AF_INET6"
    # The resolver and the default gateway.
    "AF_NETLINK"
    # `ping` and `arping`, as checks.
    "AF_PACKET"
  ];
  RestrictRealtime = true;
}
# What a build or nix's sandbox may need: a host name and control groups of its own, another
# personality, programs of another word size, any system call.
// (
  if mayBuild then
    { }
  else
    {
      LockPersonality = true;
      ProtectControlGroups = true;
      ProtectHostname = true;
      SystemCallArchitectures = "native";
      SystemCallErrorNumber = "EPERM";
      SystemCallFilter = "~@cpu-emulation @module @obsolete @raw-io @reboot @swap";
    }
)
