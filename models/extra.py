"""What the extra `train` installs, and the sentence where it is not there."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import SettingsError

_PARTS = ("torch", "safetensors", "onnxscript")


def demand_training() -> None:
    """Raise SettingsError where a part of the extra `train` is not installed. Imports nothing."""
    if missing := [part for part in _PARTS if find_spec(part) is None]:
        raise SettingsError(
            f"What trains and exports networks is not installed ({', '.join(missing)}): "
            'pip install -c constraints.txt ".[train]".'
        )
