"""What to show: retrieval, ranking, freshness, and why."""
