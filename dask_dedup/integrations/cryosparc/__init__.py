"""Remove duplicates in an external job of CryoSPARC, through its client cryosparc-tools."""

from dask_dedup.integrations.cryosparc.external_job import TITLE as TITLE
from dask_dedup.integrations.cryosparc.external_job import FinishedJob as FinishedJob
from dask_dedup.integrations.cryosparc.external_job import run_external_job as run_external_job
