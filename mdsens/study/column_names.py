"""Names that a file format cannot carry, as words of ASCII, and back again."""

import hashlib
import re

import ase.data

#: What most names of parameters are: a word, and for a table the names of one or two species.
_ORDINARY = re.compile(r"d([A-Za-z][A-Za-z0-9]*_?)(?:_([A-Za-z0-9]+)(?:_([A-Za-z0-9]+))?)?")
#: Begins a name with escapes; no ordinary one begins like this.
_ESCAPED = "d_"
_TOKEN = re.compile(r"([A-Za-z0-9]+)|_([0-9a-f]+)_")


def vector_name(parameter: str) -> str:
    """Name of the column of d positions / d parameter in relaxed.extxyz.

    Different parameters have different columns; `parameter_of_vector` leads back.

    Arguments:
        parameter: e.g. ``"sigma[Ar-Kr]"``.

    Returns:
        ASCII letters, digits and underscores, as the format asks for: ``"dsigma_Ar_Kr"``. A name
        that cannot be told from another in this way has all but letters and digits written as
        hexadecimal numbers between underscores: ``"d_sigma_5b__3b1__5d_"`` for ``"sigma[α]"``.
    """
    ordinary = "d" + re.sub(r"[\[-]", "_", parameter.removesuffix("]"))
    if _ORDINARY.fullmatch(ordinary) and parameter_of_vector(ordinary) == parameter:
        return ordinary
    return _ESCAPED + "".join(
        one if one.isascii() and one.isalnum() else f"_{ord(one):x}_" for one in parameter
    )


def parameter_of_vector(column: str) -> str:
    """The parameter whose vectors a column of relaxed.extxyz holds.

    Arguments:
        column: what `vector_name` returned.

    Returns:
        The parameter's name.

    Raises:
        ValueError: no column of vectors is called so.
    """
    if ordinary := _ORDINARY.fullmatch(column):
        field, *species = [part for part in ordinary.groups() if part is not None]
        return f"{field}[{'-'.join(species)}]" if species else field
    tokens = list(_TOKEN.finditer(column, len(_ESCAPED)))
    if not column.startswith(_ESCAPED) or "".join(t[0] for t in tokens) != column[len(_ESCAPED) :]:
        raise ValueError(f"{column!r} is no column of vectors")
    return "".join(token[1] or chr(int(token[2], 16)) for token in tokens)


def name_in_files(parameter: str) -> str:
    """What stands for a parameter in names of files, of which some systems ignore capitals.

    Arguments:
        parameter: e.g. ``"sigma[Ar-Kr]"``.

    Returns:
        The name of its column, e.g. ``"dsigma_Ar_Kr"``, with a checksum behind it where it is not
        written as most are: in small letters, and chemical elements as these are. So names of
        different parameters differ by more than capitals.
    """
    column = vector_name(parameter)
    usual = "_".join(
        part.capitalize() if place and part.capitalize() in ase.data.chemical_symbols else
        part.lower() for place, part in enumerate(column.split("_"))
    )  # fmt: skip
    if column == usual:
        return column
    return f"{column}-{hashlib.sha256(column.encode()).hexdigest()[:8]}"
