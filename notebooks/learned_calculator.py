# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A crystal by a learned model, and what its weights do to it
#
# CHGNet ([Deng et al. 2023](https://arxiv.org/abs/2302.14231)) is a graph network with 412,525
# weights, which come with its package: `pip install chgnet` (with torch; a processor is enough). It
# has a calculator of ASE, and `mdsens.potentials.Calculator` makes a potential of any of those:
# forces and stress are the calculator's, products with the Hessian are differences of forces, and
# derivatives in a parameter are differences of forces of calculators made with others.
#
# A parameter is any number that a calculator is made from. Here they are factors of three parts of
# the network: of the vectors that stand for zinc and for oxygen, and of the weights that turn the
# lengths of bonds into features. How do the lattice constants of zinc oxide follow them? And which
# small change would give the lattice constants that were measured?

# %%
import contextlib
import copy
import io
import os
import warnings
from pathlib import Path

import ase.build
import matplotlib.pyplot as plt
import numpy as np
import torch
from ase.data import atomic_numbers
from chgnet.model.dynamics import CHGNetCalculator
from chgnet.model.model import CHGNet

import mdsens
from mdsens.potentials import Calculator

warnings.filterwarnings("ignore")
FIGURE = Path(os.environ.get("MDSENS_FIGURES", ".")) / "learned_calculator.png"
PARTS = ("zinc", "oxygen", "bonds")
MEASURED = {"a": 3.250, "c": 5.207}

# %% [markdown]
# ## The model as a potential
#
# The weights are loaded once; each set of factors makes a copy of them.

# %%
loaded = CHGNet.load(use_device="cpu", verbose=False)


def make_calculator(zinc, oxygen, bonds):
    """CHGNet with three of its parts multiplied."""
    model = copy.deepcopy(loaded)
    with torch.no_grad():
        elements = model.atom_embedding.embedding.weight
        elements[atomic_numbers["Zn"] - 1] *= zinc
        elements[atomic_numbers["O"] - 1] *= oxygen
        for weights in model.bond_embedding.parameters():
            weights *= bonds
    # It tells of every copy where it runs.
    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(model=model, use_device="cpu", verbose=False)


potential = Calculator(make_calculator, dict.fromkeys(PARTS, 1.0))

# %% [markdown]
# ## At rest
#
# Forces come in single precision. How exact they are is measured, and a relaxation can go as far as
# that and no further.

# %%
wurtzite = ase.build.bulk("ZnO", "wurtzite", a=3.25, c=5.2, u=0.382)


def relaxed(potential, start):
    """Zinc oxide at rest, in a cell that stretches along its axes."""
    return mdsens.relax(start, potential, fmax=5e-4, cell="diagonal", max_steps=100)


def lattice_constants(equilibrium):
    """a and c, Angstrom."""
    return np.linalg.norm(np.asarray(equilibrium.cell), axis=1)[[0, 2]]


equilibrium = relaxed(potential, mdsens.System.from_ase(wurtzite))
a, c = lattice_constants(equilibrium)
calls = potential.calls
print(f"a = {a:.4f} Ang, c = {c:.4f} Ang after {calls} calls of CHGNet")
print(f"largest force {float(equilibrium.largest_force):.1e} eV/Ang")

# %% [markdown]
# ## What the weights do
#
# One sensitivity: a linear system for each parameter, solved with products that are differences of
# forces. With each derivative comes its error, made of the noise that was measured.

# %%
found = mdsens.sensitivity(equilibrium, ["lattice_constants", "energy"])
jacobian = np.stack([np.asarray(found["lattice_constants"][name])[[0, 2]] for name in PARTS], 1)
errors = np.stack(
    [np.asarray(found.errors["lattice_constants"][name])[[0, 2]] for name in PARTS], 1
)
sensitivity_calls = potential.calls - calls
print(
    f"{sensitivity_calls} calls of CHGNet; noise of its forces {potential.force_noise:.0e} eV/Ang"
)
for column, name in enumerate(PARTS):
    columns = jacobian[:, column], errors[:, column]
    values = [f"{v:+.4f} ± {e:.4f}" for v, e in zip(*columns, strict=True)]
    print(f"1 % more of {name}: a, c by {', '.join(values)} hundredths of an Ang")

# %% [markdown]
# ## Are they right?
#
# Zinc oxide relaxes again with other factors of oxygen. The line through the relaxation is
# the derivative, and no fit.

# %%
factors = np.array([0.98, 0.99, 1.0, 1.01, 1.02])
again = {1.0: equilibrium}
for factor in factors[factors != 1.0]:
    changed = potential.with_parameters({"oxygen": factor})
    again[factor] = relaxed(changed, equilibrium.system)
constants = np.stack([lattice_constants(again[factor]) for factor in factors])
numeric = (constants[3] - constants[1]) / (factors[3] - factors[1])
print("derivatives of a and c by the factor of oxygen, Ang:", jacobian[:, 1].round(3))
print("and by relaxing again:", numeric.round(3))

# %% [markdown]
# ## To what was measured
#
# The smallest change of the three factors that gives both lattice constants, to first order; and
# from where that leads, twice more, with the same derivatives.

# %%
wanted = np.array([MEASURED["a"], MEASURED["c"]])
step, fitted = np.zeros(len(PARTS)), equilibrium
print("a and c beyond what was measured, Ang:", lattice_constants(fitted) - wanted)
for _ in range(3):
    step += np.linalg.lstsq(jacobian, wanted - lattice_constants(fitted), rcond=None)[0]
    changed = potential.with_parameters(dict(zip(PARTS, 1.0 + step, strict=True)))
    fitted = relaxed(changed, fitted.system)
    print("after a step:", lattice_constants(fitted) - wanted)
before, after = np.abs([a, c] - wanted), np.abs(lattice_constants(fitted) - wanted)
print("factors:", dict(zip(PARTS, (1.0 + step).round(3).tolist(), strict=True)))

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axis, row, name in zip(axes, (0, 1), "ac", strict=True):
    axis.plot(factors, constants[:, row], "o", label="relaxed again")
    axis.plot(factors, [a, c][row] + jacobian[row, 1] * (factors - 1.0), label="derivative")
    axis.set_xlabel("factor of oxygen")
    axis.set_ylabel(f"{name}, Å")
axes[0].legend()
figure.savefig(FIGURE, dpi=150)
