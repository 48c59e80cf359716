"""Pick files of many programs: one line per pick, one file or thousands, read and written back unchanged."""
