"""Where data comes from: the importers and the small community that the project wrote."""
