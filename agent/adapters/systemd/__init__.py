"""systemd and logind."""
