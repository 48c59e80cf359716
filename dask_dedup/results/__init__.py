"""What is done with a finished run: verify, report, publish, status."""
