"""Clock, ids, errors, hashing and randomness: what every room may use."""
