"""Operations on a finished run: verify, report, publish, status."""
