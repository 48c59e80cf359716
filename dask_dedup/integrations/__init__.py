"""Jobs inside other programs (hosts). Each host has a module, which imports the host's library when a job starts."""

#: Subfolder of a job for the result of its run; the host's own files are beside it.
FOLDER = "dedup"
