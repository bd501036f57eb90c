"""Where data comes from: the importers and a simulated town."""
