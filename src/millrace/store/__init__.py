"""The PostgreSQL ladder: mechanism that knows no room's nouns."""
