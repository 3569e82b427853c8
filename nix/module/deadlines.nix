# How long a run may take, from its settings: TimeoutStartSec only ends an agent that hangs.
{ schema }:
settings:
let
  numberOf =
    digits: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+(\\.[0-9]+)?)" digits));
  secondsIn = {
    ms = 0.001;
    s = 1;
    m = 60;
    h = 3600;
    d = 86400;
  };
  # A duration as the agent reads it: "90s", "1h30m", or a number of seconds.
  secondsOf =
    duration:
    let
      parts = builtins.filter builtins.isList (
        builtins.split "([0-9]+(\\.[0-9]+)?)[[:space:]]*(ms|s|m|h|d)" duration
      );
      secondsOfPart = part: numberOf (builtins.head part) * secondsIn.${builtins.elemAt part 2};
    in
    if !builtins.isString duration then
      duration
    else if parts == [ ] then
      numberOf duration
    else
      builtins.foldl' (sum: part: sum + secondsOfPart part) 0 parts;

  deadline =
    table: key:
    let
      set = settings.${table}.${key};
    in
    secondsOf (if set == null then schema.default table key else set);
in
{
  # In seconds: what is asked and fetched, an activation that is undone and what the loader is told,
  # another activation that is waited for before each, a confirmation that is begun twice and may have to
  # wait for its turn, and some for all that has no limit of its own.
  ofARun = builtins.ceil (
    2 * deadline "hydra" "deadline"
    + 3 * deadline "health" "deadline"
    # To evaluate, to fetch, to build.
    + 3 * deadline "fetch" "deadline"
    + 8 * deadline "activate" "deadline"
    + 5 * (deadline "confirm" "settle" + deadline "confirm" "deadline")
    + 1800
  );
}
