# Puts $SYSTEM on a disk, and $SOURCE, the flake it is of, in its /etc/nixos. Asks no network.
set -eu

target=/mnt

say() { printf '%s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}

case ${1-} in
/dev/*) disk=$(readlink -f "$1") ;;
*) fail "usage: ${0##*/} /dev/DISK [--yes]: everything on that disk is lost" ;;
esac

[ "$(id -u)" = 0 ] || fail "${0##*/} must be run as root"
[ "$(lsblk --nodeps --noheadings --output TYPE "$disk")" = disk ] || fail "$disk is no disk"
[ -z "$(lsblk --noheadings --output MOUNTPOINTS "$disk" | tr -d '[:space:]')" ] ||
	fail "$disk is in use: it may be the one that this was started from"
[ -z "$(find "$target" -mindepth 1 -maxdepth 1 2>/dev/null)" ] || fail "$target is not empty"
[ -d /sys/firmware/efi ] || fail "this machine was not started by EFI: systemd-boot needs that"

if [ "${2-}" != --yes ]; then
	lsblk --output NAME,SIZE,MODEL,FSTYPE,LABEL "$disk" >&2
	printf 'All of that will be lost. Type the name of the disk to go on: ' >&2
	read -r answer
	[ "$answer" = "${1##*/}" ] || fail "nothing was done"
fi

say "partitioning $disk"
wipefs --all --quiet "$disk"
sfdisk --quiet "$disk" <<END
label: gpt
size=1GiB, type=uefi, name=nixos-boot
type=linux, name=nixos-root
END
udevadm settle

# A second disk with such names would be mounted in place of this one.
part() {
	found=$(lsblk --noheadings --list --paths --output PATH,PARTLABEL | sed -n "s/ \+$1\$//p")
	[ "$(printf '%s\n' "$found" | wc -l)" = 1 ] ||
		fail "more than one partition is called $1: remove the other disk"
	[ "$(lsblk --nodeps --noheadings --paths --output PKNAME "$found")" = "$disk" ] ||
		fail "the partition $1 has not appeared on $disk"
	printf '%s\n' "$found"
}
boot=$(part nixos-boot)
root=$(part nixos-root)

mkfs.vfat -F 32 -n BOOT "$boot" >&2
mkfs.ext4 -q -F -L nixos "$root"
mkdir -p "$target"
mount "$root" "$target"
mkdir -p "$target/boot"
mount -o umask=0077 "$boot" "$target/boot"

say "copying $SYSTEM"
set -- "${2-}" --root "$target" --system "$SYSTEM" --no-channel-copy --substituters ''
# Who is there to answer is asked for root's password.
[ "$1" != --yes ] || set -- "$@" --no-root-passwd
shift
nixos-install "$@"

mkdir -p "$target/etc/nixos"
cp -r --no-preserve=ownership "$SOURCE/." "$target/etc/nixos"
chmod -R u+w "$target/etc/nixos"

# A profile is a link to a generation, which is a link as the new system will see it.
profiles=$target/nix/var/nix/profiles
[ "$(readlink "$profiles/$(readlink "$profiles/system")")" = "$SYSTEM" ] ||
	fail "the system profile is not $SYSTEM"
umount -R "$target"
say "done: remove the medium and reboot"
