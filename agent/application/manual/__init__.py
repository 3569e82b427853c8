"""What is done by hand: a verdict, a pause, a reboot."""
