"""What `mdsens.load` returns, drawn: the accessor ``mdsens`` of its Datasets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import xarray

from mdsens import plots
from mdsens.errors import InputError
from mdsens.pages import View, structure_view, sweep_view
from mdsens.study.results_file import read_results
from mdsens.study.sweep_file import SWEEP_NAME, read_manifest
from mdsens.values import choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where a Dataset keeps the folder that it was read from and its sizes, beside what xarray keeps.
FOLDER = "mdsens_folder"


def remember_folder(found: xarray.Dataset, folder: Path) -> None:
    """Let a Dataset know where it is from, so that it can be drawn as a whole.

    Arguments:
        found: the Dataset; changed in place.
        folder: what `mdsens run` wrote.
    """
    found.encoding[FOLDER] = str(folder), list(found.sizes.items())


@xarray.register_dataset_accessor("mdsens")  # type: ignore[no-untyped-call]
class Loaded:
    """Figures and views of the results of a run or a sweep, as ``found.mdsens``.

    Arguments:
        found: from `mdsens.load`.
    """

    def __init__(self, found: xarray.Dataset) -> None:
        self.found = found

    @property
    def folder(self) -> Path:
        """The folder that was loaded.

        Raises:
            InputError: the Dataset is a part of what was loaded, or from elsewhere.
        """
        folder, sizes = self.found.encoding.get(FOLDER, ("", None))
        if sizes != list(self.found.sizes.items()):
            raise InputError(
                "the Dataset is not as mdsens.load has returned it: draw that one, and choose from "
                "it later"
            )
        return Path(folder)

    def plot(self, key: str | None = None) -> "Figure":
        """Observables and derivatives: over a swept key, or of a run as bars.

        Arguments:
            key: the swept key to draw over; the first by default.

        Returns:
            The Figure.

        Raises:
            InputError: a key that is not swept, no observable of one number, or a Dataset that is
                not as `mdsens.load` has returned it.
        """
        if not (self.folder / SWEEP_NAME).is_file():
            if key is not None:
                raise InputError(f"key = {key!r}: the folder holds one run, and no sweep")
            return plots.sensitivities_figure(read_results(self.folder))
        keys = list(json.loads(self.found.attrs["sweep"])["keys"])
        key = keys[0] if key is None else choice(key, "key", keys)
        figure = plots.sweep_figure(self.found, keys, key)
        if figure is None:
            raise InputError("no observable of the sweep is a single number: there is no figure")
        return figure

    def view(self) -> View:
        """Linked charts of all runs and their table; or the structures of a run.

        Returns:
            The View, which a notebook shows, and ``save(path)`` writes as a page.

        Raises:
            InputError: a structure of a run has too many atoms, or a Dataset that is not as
                `mdsens.load` has returned it.
        """
        from mdsens.study.report_structures import shown_structures
        from mdsens.study.results_file import structures_of
        from mdsens.study.sweep_page import runs_of_sweep

        if (self.folder / SWEEP_NAME).is_file():
            manifest = read_manifest(self.folder)
            # A notebook's frame leads to no files.
            runs = runs_of_sweep(self.found, manifest, [None] * len(manifest["runs"]))
            return View(manifest["study"], sweep_view("runs", runs), height=900)
        results = read_results(self.folder)
        parts = []
        for name, shown in shown_structures(self.folder, results).items():
            plots.require_few_atoms(len(shown.atoms))
            of = structures_of(results)[name]
            title = results["study"] + (f", {name}" if name else "")
            parts.append(structure_view(f"structure-{name}", shown.scene(results | of, title)))
        return View(results["study"], "\n".join(parts), height=620 * len(parts))
