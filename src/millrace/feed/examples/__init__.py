"""Training examples: what members were shown, what they did, and what was known then."""
