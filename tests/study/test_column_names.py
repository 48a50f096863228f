"""Columns of vectors: other parameters, other columns, and the way back."""

import io

import ase
import ase.io
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdsens.study.column_names import name_in_files, parameter_of_vector, vector_name

#: Any text, and texts of the signs that names of parameters and columns are made of.
NAMES = st.one_of(st.text(), st.text("sigma_[-]Ar5b0α"))


@pytest.mark.parametrize(
    ("parameter", "column"),
    [
        ("sigma", "dsigma"),
        ("lambda_", "dlambda_"),
        ("costheta0", "dcostheta0"),
        ("diameter[large]", "ddiameter_large"),
        ("sigma[Ar-Kr]", "dsigma_Ar_Kr"),
        ("lambda_[Si-Si]", "dlambda__Si_Si"),
        # What would be taken for another name is written out.
        ("sigma_Ar", "d_sigma_5f_Ar"),
        ("sigma[α]", "d_sigma_5b__3b1__5d_"),
    ],
)
def test_a_column_is_a_word(parameter, column):
    assert vector_name(parameter) == column


@given(NAMES)
@example("sigma[a_b]")
@example("sigma[a-b-c]")
@example("_5b_")
def test_a_column_leads_back_to_its_parameter(parameter):
    column = vector_name(parameter)
    assert column.isascii()
    assert column.replace("_", "a").isalnum()
    assert parameter_of_vector(column) == parameter


@pytest.mark.parametrize(
    "column", ["", "sigma", "d", "dsigma-", "d_zz_", "d_5b_x_", "dsigma_A_B_C"]
)
def test_what_is_no_column_is_refused(column):
    try:
        found = parameter_of_vector(column)
    except ValueError:
        return
    assert vector_name(found) != column


def test_species_that_differ_in_one_letter_share_no_column():
    """As ASE reads it."""
    parameters = ["epsilon[α]", "epsilon[β]", "epsilon[a b]", "epsilon[a-b]", "epsilon"]
    atoms = ase.Atoms("Ar2", positions=np.eye(3)[:2])
    for index, parameter in enumerate(parameters):
        atoms.set_array(vector_name(parameter), np.full((2, 3), float(index)))
    file = io.StringIO()
    ase.io.write(file, atoms, format="extxyz")
    file.seek(0)
    found = ase.io.read(file, format="extxyz")
    for index, parameter in enumerate(parameters):
        assert (found.arrays[vector_name(parameter)] == index).all()


def test_names_of_files_differ_by_more_than_capitals():
    """Some file systems take structure-dA.png and structure-da.png for one file."""
    species = ("Ar", "AR", "ar", "Co", "CO", "co", "large", "Large", "\u03b1", "\u0391")
    names = [*"AaBbCc", "kappa", "lambda_", *(f"{a}[{b}]" for a in "Bb" for b in species)]
    found = [name_in_files(name).casefold() for name in names]
    assert len(set(found)) == len(names)
    for usual in ("sigma", "sigma[Ar-Kr]", "diameter[large]"):
        assert name_in_files(usual) == vector_name(usual)
