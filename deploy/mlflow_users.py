"""The MLflow users of a team: `python -m deploy.mlflow_users`, logged in as an administrator, creates those missing.

`worker` owns the experiments and models that runs make, and can change no others and no user. `reader`, made where
MLFLOW_READER_PASSWORD is given, reads and pulls everything. Who may write at all is said in docker/mlflow-auth.ini.
"""

import os
import sys
import urllib.error
from collections.abc import Mapping

from deploy.stack.api import call
from deploy.stack.logins import mlflow_headers

PASSWORDS = {"worker": "MLFLOW_WORKER_PASSWORD", "reader": "MLFLOW_READER_PASSWORD"}


def create_missing(variables: Mapping[str, str] = os.environ) -> list[str]:
    """Create each user whose password is in the environment and who is not there; returns the names of the new ones.

    Raises:
        OSError: no answer, or the login is no administrator's.
    """
    users, login = f"{variables['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users", mlflow_headers(variables)
    created = []
    for name, variable in PASSWORDS.items():
        if not (password := variables.get(variable)):
            continue
        try:
            call(f"{users}/get?username={name}", headers=login)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            call(f"{users}/create", {"username": name, "password": password}, headers=login)
            created.append(name)
    return created


def main() -> int:
    try:
        for name in create_missing():
            print(f"MLflow user {name}: created")
    except OSError as error:
        print(f"error: MLflow's users: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
