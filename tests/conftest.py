"""What holds for all tests."""

from hypothesis import settings

# Two slow cores shared with others: how long one example takes says nothing about the code.
settings.register_profile("maskmill", deadline=None)
settings.load_profile("maskmill")
