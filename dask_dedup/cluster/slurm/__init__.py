"""Clusters on SLURM.

============== ==================================================================================
`allocation`   scheduler in the batch script, workers on all nodes of the same allocation (srun)
`jobs`         scheduler in this process, workers in jobs (dask-jobqueue)
`queue`        states of jobs (squeue)
`settings`     Dask's configuration under ``jobqueue.slurm``; network interfaces
`walltime`     workers and runs end before SLURM kills them
============== ==================================================================================
"""
