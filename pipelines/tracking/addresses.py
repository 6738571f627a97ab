"""Where the tracker is: addresses in their full form, made of paths, and paths read from addresses.

A folder may be called anything: Jenkins names workspaces ``job%2Fmain``. In an address ``%2F`` is a slash, and from a
``?`` on nothing belongs to the path, so a path that is pasted into an address leads elsewhere without a word. Only
what is made here, or by ``Path.as_uri``, does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dnw_core.errors import UserError

_DATABASES = ("postgresql", "mysql", "mssql")
_EXAMPLES = "sqlite:////absolute/path/mlflow.db or http://127.0.0.1:5000"


def sqlite_uri(path: Path, options: str = "") -> str:
    """Return the address of a SQLite file, which SQLAlchemy and MLflow open as this very path.

    Only what means something else there is quoted: MLflow also takes the address as it stands for a path, and makes
    that one's folders (``database.make_no_folders``).

    Args:
        path: made absolute.
        options: what follows the question mark.
    """
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{quoted}" + (f"?{options}" if options else "")


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite address's file; None for any other address."""
    match = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri, re.DOTALL)
    return Path(unquote(match[1])).absolute() if match else None


def sqlite_options(uri: str) -> str:
    """Return what follows the question mark of an address."""
    return uri.partition("?")[2]


def default_uri(results_dir: Path) -> str:
    """Return the address of the tracker inside a results folder."""
    return sqlite_uri(results_dir.resolve() / "mlflow" / "mlflow.db")


def resolve_uri(uri: str | None, results_dir: Path) -> str:
    """Return the address with absolute paths; None is the tracker inside the results folder.

    Raises:
        UserError: if it is of a kind that is not supported.
    """
    if uri is None or not uri.strip():
        return default_uri(results_dir)
    uri = uri.strip()
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme in ("http", "https"):
        try:
            port_is_fine = urlsplit(uri).port != 0
        except ValueError:
            port_is_fine = False
        if not (urlsplit(uri).hostname and port_is_fine):
            raise UserError(f"--tracking-uri {uri!r} is not an address; give for example http://127.0.0.1:5000")
        return uri.rstrip("/")
    if scheme == "sqlite" and (path := sqlite_path(uri)) is not None:
        _refuse_unquoted(uri, path)
        return sqlite_uri(path, sqlite_options(uri))
    if scheme in _DATABASES and "://" in uri:
        return uri
    if scheme in ("file", "") or "://" not in uri:
        raise UserError(f"--tracking-uri {uri!r}: MLflow no longer supports plain folders; give {_EXAMPLES}")
    raise UserError(f"--tracking-uri {uri!r} is of an unknown kind; give {_EXAMPLES}")


def _refuse_unquoted(uri: str, path: Path) -> None:
    """Refuse a path that was pasted into an address, where it means another path."""
    pasted = Path(uri.removeprefix("sqlite:///")).absolute()
    meant = f"write {sqlite_uri(pasted)} for {pasted}"
    options = sqlite_options(uri)
    if options and "=" not in options:
        raise UserError(f"--tracking-uri {uri!r}: a ? ends the path of an address; {meant}")
    if pasted != path and not options and pasted.parent.is_dir() and not path.parent.is_dir():
        raise UserError(f"--tracking-uri {uri!r} means {path}, which is not there; {meant}")


def artifact_root(uri: str, results_dir: Path) -> Path | None:
    """Return where artifacts go: beside a SQLite file, in the results folder for a database; None: a server decides."""
    if uri.startswith(("http://", "https://")):
        return None
    path = sqlite_path(uri)
    return (path.parent if path else results_dir.resolve() / "mlflow") / "artifacts"


def without_password(uri: str) -> str:
    """Return the address without the credentials it may carry."""
    return re.sub(r"//[^/@]*@", "//***@", uri)
