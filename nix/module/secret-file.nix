# The type of an option that names a file with a secret, which must not be in the world-readable store.
{ types }:
types.addCheck types.str (
  path: builtins.match "/.*" path != null && builtins.match "${builtins.storeDir}/.*" path == null
)
// {
  description = "absolute path, in quotes, outside the world-readable store";
}
