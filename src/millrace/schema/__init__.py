"""The database schema as package data; imported by nobody."""
