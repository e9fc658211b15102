"""The network wing: what a model eats and says, how far it looks, and one run of it."""
