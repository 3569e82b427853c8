"""What is other for a user's home than for a host."""
