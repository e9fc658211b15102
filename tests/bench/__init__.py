"""The benchmarks: `make bench`, or `python -m tests.bench PART…` for some of them."""
