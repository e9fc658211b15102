"""What holds for all tests."""

import signal

from hypothesis import settings

# Two slow cores shared with others: how long one example takes says nothing about the code.
settings.register_profile("maskmill", deadline=None)
settings.load_profile("maskmill")

# A shell that starts the tests in the background ignores Ctrl-C for them, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
