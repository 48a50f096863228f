"""Where a study is: a folder, a study.toml, or the bare name of a ready study."""

import re
from pathlib import Path

import mdsens
from mdsens.errors import InputError
from mdsens.files import is_file, path_of
from mdsens.markup import visible
from mdsens.study.model import LONGEST_NAME
from mdsens.study.reading import read_study_table
from mdsens.values import nearest, shown

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

    Raises:
        InputError: one of them cannot be read.
    """
    return {
        name: str(read_study_table(ready_folder() / name / FILE_NAME).get("description", ""))
        for name in _ready_names()
    }


def find_study(study: str | Path) -> Path:
    """Find a study's file.

    Arguments:
        study: a folder, a study.toml, or the name of a ready study.

    Returns:
        Path of the study.toml.

    Raises:
        InputError: there is none; what there is, is named.
    """
    given = path_of(study, "study")
    if is_file(given, "study"):
        return given
    if is_file(given / FILE_NAME, "study"):
        return given / FILE_NAME
    ready = ready_folder() / given / FILE_NAME
    if len(given.parts) == 1 and ready.is_file():
        return ready
    if given.is_dir():
        raise InputError(f"study {str(study)!r}: the folder holds no {FILE_NAME}; write one there")
    names = _ready_names()
    meant = ""
    if len(given.parts) == 1:
        # Names of several words are a little like anything.
        whole_words = [name for name in names if str(given) in name.split("-")]
        meant = nearest(given, whole_words or names, 0.0 if whole_words else 0.7)
    raise InputError(
        f"study {shown(str(study))}: no such folder or file; give one, or the name of a ready "
        f"study: {', '.join(names) or 'none is installed'}{meant}"
    )


def default_name(folder: Path) -> str:
    """What a study without a name is called: like its folder.

    Arguments:
        folder: the study's folder.

    Returns:
        A name that a study.toml can have, with underscores for what it cannot.
    """
    name = "".join("_" if visible(one) != one else one for one in folder.name)
    return re.sub(r"^[. ]+|[\\/]| +$", "_", name)[:LONGEST_NAME].rstrip() or "study"


def _ready_names() -> list[str]:
    return sorted(path.parent.name for path in ready_folder().glob(f"*/{FILE_NAME}"))
