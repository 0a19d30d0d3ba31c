"""The files by which prometheus_client shares figures between processes (``PROMETHEUS_MULTIPROC_DIR``)."""
