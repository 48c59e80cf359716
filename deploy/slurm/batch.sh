#!/usr/bin/env bash
# One run in one job: scheduler and run in this script, workers in all tasks on all nodes.
#   sbatch deploy/slurm/batch.sh INPUT... --output OUT [other options of dask-dedup run]
# The same command in the next job resumes where this one stopped.
#SBATCH --job-name=dask-dedup
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=02:00:00
# The run stops in order a minute before the time limit.
#SBATCH --signal=B:TERM@60
set -euo pipefail
# Add what your site needs here: module load, source .../activate.
exec dask-dedup run "$@" --cluster slurm-allocation --interface "${DASK_DEDUP_INTERFACE:-ib0}"
