"""What differs between a user's home and a host."""
