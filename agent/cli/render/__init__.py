"""What people are shown: tables, lists and progress."""
