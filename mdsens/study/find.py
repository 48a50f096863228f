"""Where a study is: a folder, a study.toml, or the bare name of a ready study."""

import tomllib
from pathlib import Path

import mdsens
from mdsens.errors import InputError
from mdsens.values import nearest

#: What a study's file is called.
FILE_NAME = "study.toml"


def ready_folder() -> Path:
    """The folder of the ready studies: that of the checkout, or the one inside a wheel.

    Returns:
        Its path; it may not exist in an unusual installation.
    """
    package = Path(mdsens.__file__).resolve().parent
    inside, beside = package / "systems", package.parent / "systems"
    return inside if inside.is_dir() else beside


def ready_studies() -> dict[str, str]:
    """The ready studies.

    Returns:
        Name and description of each, in alphabetical order.
    """
    found = {}
    for path in sorted(ready_folder().glob(f"*/{FILE_NAME}")):
        found[path.parent.name] = str(tomllib.loads(path.read_text("utf-8")).get("description", ""))
    return found


def find_study(study: str | Path) -> Path:
    """Find a study's file.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.

    Returns:
        Path of the study.toml.

    Raises:
        InputError: there is none; what there is, is named.
    """
    given = Path(study)
    if given.is_file():
        return given
    if (given / FILE_NAME).is_file():
        return given / FILE_NAME
    ready = ready_folder() / given / FILE_NAME
    if len(given.parts) == 1 and ready.is_file():
        return ready
    if given.is_dir():
        raise InputError(f"study {str(study)!r}: the folder holds no {FILE_NAME}; write one there")
    names = list(ready_studies())
    raise InputError(
        f"study {str(study)!r}: no such folder or file; give one, or the name of a ready study: "
        f"{', '.join(names) or 'none is installed'}{nearest(str(study), names)}"
    )
