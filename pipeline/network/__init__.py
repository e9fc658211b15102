"""The network wing: what a model eats and says, how far it looks, and one run of it."""

import os

# ONNX Runtime reads this when it is imported. Without it, it sends to its makers what is run here, in a thread of every
# process, and leaves files in the temporary folder and in ~/.cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
