"""The result folder: staging, checkpoints, commit, manifest."""
