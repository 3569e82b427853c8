"""Changes the host: fetches, activates, reboots, and recovers what was cut short."""
