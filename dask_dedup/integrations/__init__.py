"""Jobs inside other programs (hosts). Each host has a module, which imports the host's library when a job starts."""

#: Subfolder of a job for the result of its run. The files of the host are in the folder of the job.
FOLDER = "dedup"
