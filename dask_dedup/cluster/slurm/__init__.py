"""Runs in jobs of SLURM: inside one allocation, or with jobs of workers that come and go.

============== =======================================================================
`allocation`   scheduler and client in the batch script, workers as a step of its job
`jobs`         scheduler and client here, workers in jobs of their own (dask-jobqueue)
`queue`        what SLURM says of jobs
`settings`     what Dask's configuration says under ``jobqueue.slurm``; networks
`walltime`     time limits: reading them, leaving before they are over
============== =======================================================================
"""
