"""Pure decisions and the types they use: no I/O and no clock."""
