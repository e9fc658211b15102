"""maskmill's pipeline: pixels in, through a network, masks out. Imports nothing heavy by itself."""
