"""Jobs inside other programs (hosts). Each host has a module, which imports the host's library when a job starts."""
