"""What the tables of the settings are made of."""
