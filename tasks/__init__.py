"""One file per stage: thin Prefect tasks over pipeline_lib that add retries on I/O, progress, artifacts and MLflow.

Tasks take and return URIs and small JSON; tables and tensors stay in the store.
"""

from tasks.logs import complete_logs

complete_logs()
