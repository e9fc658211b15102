"""What a GPU makes of maskmill: `python -m tests.bench.gpu`."""
