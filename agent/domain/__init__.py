"""Pure decisions and their words: no input, no output, no clock."""
