"""Members, posts, threads, follows, blocks and visibility: the domain the other rooms serve."""
