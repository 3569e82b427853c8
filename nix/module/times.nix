# Lines of a build that end it where a time is none: systemd would ignore it, and start no unit.
#
# `calendar` and `timespan` map the names of options to times.
{ lib, systemd }:
{
  calendar ? { },
  timespan ? { },
}:
let
  # A build has no time zone database: a last word that may be a time zone is left out.
  withoutZone =
    event:
    let
      found = builtins.match "(.*[^ ]) +([A-Z][A-Za-z0-9_+/-]*)" event;
      last = builtins.elemAt found 1;
    in
    if found == null || builtins.match "(Mon|Tue|Wed|Thu|Fri|Sat|Sun).*" last != null then
      event
    else
      builtins.head found;

  checked =
    verb: what: change: times:
    lib.concatMapStrings (
      option:
      let
        time = toString times.${option};
        told = "${option}: \"${time}\" is no ${what}, see systemd.time(7).";
      in
      ''
        if ! ${systemd}/bin/systemd-analyze ${verb} -- ${lib.escapeShellArg (change time)} > times; then
          echo ${lib.escapeShellArg told} >&2
          exit 1
        fi
      ''
    ) (builtins.attrNames times);
in
checked "calendar" "calendar event" withoutZone calendar
+ checked "timespan" "time span" (span: span) timespan
