"""A live run for other programs: Prometheus (``prometheus``), Lab Streaming Layer (``lsl``)."""
