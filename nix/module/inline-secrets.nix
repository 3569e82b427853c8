# Those of the flags that have a secret in them. A user name alone is none, but for what takes tokens
# as one.
builtins.filter (
  flag: builtins.match ".*(access-tokens|://[^/?# ]*:[^/?# ]*@|https?://[^/?# ]*@).*" flag != null
)
