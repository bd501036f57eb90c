"""One file per data set: source, licence, column map."""
