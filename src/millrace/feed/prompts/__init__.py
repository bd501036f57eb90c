"""Prompts: what an encoder reads about a member or a post. What has shipped is frozen, `v2.py`."""
