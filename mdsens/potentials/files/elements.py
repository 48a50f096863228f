"""Which elements of a file a potential is for, and what its species are called."""

from collections.abc import Mapping
from typing import Any

from mdsens.errors import InputError
from mdsens.values import distinct_names, listing, nearest, shown


def chosen_elements(elements: Any, held: tuple[str, ...], name: str) -> dict[str, str]:
    """The element in a file for each species.

    Arguments:
        elements: names of elements, or a dict that says for each species which; None: all.
        held: the elements of the file.
        name: of the file, for the message.

    Returns:
        Names of elements by those of species.

    Raises:
        InputError: the file has no such element, or a name is there twice.
    """
    if elements is None:
        return {element: element for element in held}
    if isinstance(elements, Mapping):
        names = distinct_names(list(elements), "elements")
        chosen = {name: elements[name] for name in names}
    else:
        chosen = {name: name for name in distinct_names(elements, "elements")}
    for element in chosen.values():
        if element not in held:
            raise InputError(
                f"elements = {shown(elements)}: {name} has no entries of {shown(element)}, "
                f"only of {listing(held)}{nearest(element, held)}"
            )
    return chosen
