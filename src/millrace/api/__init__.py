"""HTTP resources and protocols."""
