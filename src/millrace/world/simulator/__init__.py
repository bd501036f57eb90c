"""A simulated town with known tastes."""
