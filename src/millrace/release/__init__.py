"""What to let out, to whom, and when: flags and rings."""
