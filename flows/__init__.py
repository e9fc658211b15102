"""The thin skin: command line, Dask and Prefect around the pipeline."""
