#!/usr/bin/env bash
# One run inside one job: scheduler and run in this script, a worker for each task on all nodes.
#   sbatch deploy/slurm/batch.sh INPUT... --output OUT [other options of dask-dedup run]
# The same command in the next job goes on where this one was ended.
#SBATCH --job-name=dask-dedup
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=02:00:00
set -euo pipefail
# Here goes what your site needs: module load, source .../activate.
exec dask-dedup run "$@" --cluster slurm-allocation --interface "${DASK_DEDUP_INTERFACE:-ib0}"
