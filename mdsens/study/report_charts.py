"""Charts of a report that tell the numbers under the pointer."""

from typing import Any

import numpy as np

from mdsens import plots
from mdsens.markup import visible
from mdsens.plots.phonons import GREEK

#: Colours of what is computed, of what it is compared with, and of bands.
MAIN, OTHER, BANDS = "#0072b2", "#d55e00", "#4a6fa5"


def convergence_chart(rows: list[dict[str, str]], results: dict[str, Any]) -> dict[str, Any]:
    """The largest force, and the largest stress, after each step.

    Arguments:
        rows: those of history.csv.
        results: what results.json says of the structure.

    Returns:
        What `mdsens.pages.chart` draws.
    """
    unit, steps = plots.pretty_unit(results["units"]["fmax"]), [int(row["step"]) for row in rows]
    series = [_series("largest force", steps, _column(rows, "largest_force"), MAIN)]
    levels = [{"y": results["fmax"], "name": "asked for"}]
    label = "largest force"
    if "largest_stress" in rows[0]:
        other = plots.pretty_unit(results["units"].get("smax") or "")
        label = f"largest force ({unit}), stress ({other})"
        unit = ""
        series.append(_series("largest stress", steps, _column(rows, "largest_stress"), OTHER))
        if results.get("smax"):
            levels.append({"y": results["smax"], "name": "asked for, stress"})
    return {
        "x": {"label": "step", "unit": ""},
        "y": {"label": label, "unit": unit, "log": True},
        "series": series,
        "lines": levels,
    }


def energy_volume_chart(curve: dict[str, Any]) -> dict[str, Any]:
    """Energies per atom against volumes per atom.

    Arguments:
        curve: the section of results.json.

    Returns:
        What `mdsens.pages.chart` draws.
    """
    units = {name: plots.pretty_unit(unit) for name, unit in curve["units"].items()}
    found = _series("relaxed", [curve["relaxed_volume"]], [curve["relaxed_energy"]], OTHER)
    return {
        "x": {"label": "volume per atom", "unit": units["volume"]},
        "y": {"label": "energy per atom", "unit": units["energy"]},
        "series": [
            {**_series("energies", curve["volumes"], curve["energies"], MAIN), "line": False},
            {**found, "size": 6},
        ],
    }


def phonon_bands_chart(bands: dict[str, Any]) -> dict[str, Any]:
    """Frequencies along the path of wave vectors.

    Arguments:
        bands: the section of results.json.

    Returns:
        What `mdsens.pages.chart` draws.
    """
    frequencies = np.array(bands["frequencies"], float)
    units = {name: plots.pretty_unit(unit) for name, unit in bands["units"].items()}
    series = [
        {**_series(f"band {number}", bands["distances"], band.tolist(), BANDS), "points": False,
         "line": True}
        for number, band in enumerate(frequencies.T)
    ]  # fmt: skip
    return {
        "x": {
            "label": "wave vector, along the path", "unit": units["distance"], "tight": True,
            "places": _places(bands["labels"]),
        },
        "y": {"label": "frequency", "unit": units["frequency"]},
        "series": series,
    }  # fmt: skip


def _places(labels: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Distances of symmetric points and their names, of which those of one place are joined."""
    found: dict[float, list[str]] = {}
    for place, name in labels:
        stem, beside, index = name.partition("_")
        shown = visible(GREEK.get(stem.upper(), stem) + beside + index)
        names = found.setdefault(round(place, 9), [])
        names += [shown] if shown not in names else []
    return [(place, "|".join(names)) for place, names in found.items()]


def _series(
    name: str, x: list[Any], y: list[float | None], color: str, line: bool = False
) -> dict[str, Any]:
    return {"name": name, "x": x, "y": y, "color": color, "line": line or len(x) > 1,
            "points": len(x) <= 300}  # fmt: skip


def _column(rows: list[dict[str, str]], name: str) -> list[float | None]:
    return [float(row[name]) if row[name] not in ("", "nan") else None for row in rows]
