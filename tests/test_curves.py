"""Curves of crystals are drawn from plain numbers, by a process that never imports JAX."""

import subprocess
import sys

CURVES = """
import sys
import numpy as np
from mdsens import plots
from mdsens.curves import EnergyVolume, PhononBands
from mdsens.study import report_figures

bands = {"distances": [0.0, 1.0], "vectors": [[0, 0, 0], [0.5, 0, 0.5]],
         "labels": [[0.0, "G"], [1.0, "X"]], "frequencies": [[0, 0, 0], [1, 1, 2]],
         "derivatives": {"sigma": [[0, 0, 0], [-1, -1, -2]]}, "parameters": {"sigma": 3.4},
         "units": {"distance": "1/Ang", "frequency": "THz", "sigma": "THz/Ang"}}
read = PhononBands.from_dict(bands)
assert read.to_dict() == bands
plots.phonon_bands(read, "sigma")
(sets,) = [report_figures._bands(read, "", "sigma")]
assert [name for name, _ in sets] == ["phonon-bands-dsigma"]

curve = {"volumes": [1.0, 1.1, 1.2], "energies": [-1.0, -1.1, -1.0], "pressures": [1.0, 0.0, -1.0],
         "derivatives": {"sigma": [0.3, 0.0, -0.4]}, "parameters": {"sigma": 2.0},
         "relaxed_volume": 1.1, "relaxed_energy": -1.1,
         "units": {"volume": "Ang^3", "energy": "eV", "pressure": "GPa", "sigma": "eV/Ang"}}
read = EnergyVolume.from_dict(curve)
assert read.to_dict() == curve
np.testing.assert_allclose(read.uncertainty(0.5), [0.3, 0.0, 0.4], rtol=1e-15)
given = {"energy_volume": curve | {"uncertainty": 0.01}}
assert [name for name, _ in report_figures._energy_volume(given, "bulk")] == ["energy-volume-bulk"]
assert "jax" not in sys.modules, "JAX"
"""


def test_curves_are_read_and_drawn_without_jax():
    done = subprocess.run([sys.executable, "-c", CURVES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
