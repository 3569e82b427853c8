"""What both sides can find out: about the host, and by checks; nothing is changed by it."""
