"""The checks of `pgherd doctor`: facts in, findings out. Pure."""
