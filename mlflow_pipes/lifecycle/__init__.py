"""What outlives a run: models in a registry, and the web services that serve them."""
