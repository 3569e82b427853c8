"""What a person asks for: a verdict, a pause, a reboot."""
