"""What every process of ours is told: where its state lies, that it does not phone home, that its doors are locked.

Prefect, MLflow and DVC read their settings when they are imported, so `apply` comes before them. A variable that the
user set wins: a team's Prefect server (`PREFECT_API_URL`) or MLflow server (`MLFLOW_TRACKING_URI`) is used as it is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from pipeline.errors import UserError
from pipeline.files import PROJECT, STATE

SWITCHES = {
    "AWS_EC2_METADATA_DISABLED": "true",  # S3 is asked at its configured address, nobody for credentials elsewhere
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that nothing here uses
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal is ours; Prefect's page still gets every line
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # that a server is away is said once, not for each event
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # no server behind our back: flows/servers starts the one there is
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # the search for them reads the metadata of every installed package
}
TELEMETRY = (
    "DO_NOT_TRACK",
    "DVC_NO_ANALYTICS",
    "MLFLOW_DISABLE_TELEMETRY",
    "NO_ALBUMENTATIONS_UPDATE",
    "PREFECT_SERVER_ANALYTICS_ENABLED",
)
OF_HOOKS = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")
"""What git tells its hooks: where one of them calls us, it would name another tree than the one that a run works in."""
UNTOLD = "untold"
"""Folder of the shared state for what Prefect has not heard (flows/worker/untold.py): often looked at, mostly empty."""


def project_root(start: Path | None = None) -> Path:
    """The nearest folder from `start` (here, if none) upwards that holds `dvc.yaml` and `params.yaml`.

    Raises:
        UserError: there is none.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            raise UserError(f"{folder} holds dvc.yaml but no params.yaml. `git checkout params.yaml` brings it back.")
    raise UserError(
        f"No project here: neither {start} nor a folder above it holds dvc.yaml and params.yaml.\n"
        "Change to the folder that you cloned, and run the command again."
    )


def home(root: Path) -> Path:
    """The project that a tree belongs to: `root` itself, or the one that the worktree of a run was made from."""
    link = root / PROJECT
    return link.resolve() if link.is_symlink() else root


def environment(root: Path, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that our processes need beside those `given`; makes the server's password on the first call.

    One that is given empty is not given, as for the libraries that read it.

    Raises:
        UserError: the path of the project means another one in the address of a database.
    """
    root = home(root)
    state = root / STATE
    if "?" in str(state) or unquote(str(state)) != str(state):
        raise UserError(
            f"{root}: the addresses of its databases would mean another folder, for there is a ? in it, or a % before "
            "two digits. Rename or move the project."
        )
    wanted = SWITCHES | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{state / 'prefect.db'}",
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": password(root),
    }
    if not given.get("PREFECT_API_URL"):  # a password of ours is nobody else's business
        wanted["PREFECT_API_AUTH_STRING"] = wanted["PREFECT_SERVER_API_AUTH_STRING"]
    return {name: value for name, value in wanted.items() if not given.get(name)}


def apply(root: Path) -> None:
    """Set the variables for this process and its children, before Prefect, MLflow or DVC is imported."""
    os.environ.update(environment(root))
    for name in OF_HOOKS:
        os.environ.pop(name, None)


def enter_project() -> Path:
    """Go to the project that the current folder belongs to, with its settings in the environment; its root."""
    root = project_root()
    apply(root)
    os.chdir(root)
    return root


def password(root: Path) -> str:
    """Name and password of the project's Prefect server, `convoy:...`; made once, for the owner's eyes alone."""
    path = password_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    if not path.exists():
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"convoy:{secrets.token_urlsafe(24)}\n")
            file.flush()
            os.fsync(handle)  # an empty one, as a power cut leaves it, would be no password
        try:
            os.link(temporary, path)  # of two at once, one wins and both read the same
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text().strip()


def password_file(root: Path) -> Path:
    """Where the password lies."""
    return root / STATE / "prefect.auth"
