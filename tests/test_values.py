"""The door for values: what passes it and as what, and the line that everything else gives."""

import decimal
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdsens import values
from mdsens.errors import InputError

NAN, INF = float("nan"), float("inf")
#: No value of any kind; unlike that of an object, its name is the same in every process.
ANYTHING = NotImplemented


def refused(call, *given, **options):
    with pytest.raises(InputError) as caught:
        call(*given, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# One number


def test_zero_has_one_sign():
    assert str(values.real(-0.0, "x", at_least=0)) == "0.0"


@pytest.mark.parametrize(
    "given",
    [
        2, 2.0, np.int8(2), np.float32(2), np.float64(2), np.array(2.0), jnp.asarray(2),
        fractions.Fraction(2),
    ],
    ids=repr,
)  # fmt: skip
def test_a_number_of_any_library_is_a_number(given):
    found = values.real(given, "x")
    assert type(found) is float
    assert found == 2.0


@pytest.mark.parametrize(
    "given",
    [
        "2", b"2", True, np.True_, np.array(True), jnp.asarray(True), None, [2.0], (2,), [], {}, 2j,
        NAN, INF, -INF, 10**400, np.array([2.0]), np.array("2"), np.datetime64("2020"), ANYTHING,
        float, decimal.Decimal(2),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_finite_number_is_refused(given):
    assert refused(values.real, given, "x") == f"x = {values.shown(given)}: give a finite number"


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ({"above": 0.0}, [1e-300, 5], [0, -1e-300], "above 0"),
        ({"at_least": 0.0}, [0, 5], [-1e-300], "of at least 0"),
        ({"below": 1.5}, [1.4999], [1.5, 2], "below 1.5"),
        ({"at_most": 1.5}, [1.5, -7], [1.5001], "of at most 1.5"),
        ({"above": 0.0, "below": 1.0}, [0.5], [0, 1], "above 0 and below 1"),
        ({"above": 0.0, "at_most": 1.0}, [1], [0, 1.1], "above 0 and up to 1"),
        ({"at_least": -1.0, "at_most": 1.0}, [-1, 1], [-2, 2], "of at least -1 and of at most 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bounds_are_kept_and_named(bounds, inside, outside, words):
    for number in inside:
        assert values.real(number, "x", **bounds) == number
    for number in outside:
        assert refused(values.real, number, "x", **bounds) == (
            f"x = {number!r}: give a finite number {words}"
        )
    # The same bounds for every number of an array.
    np.testing.assert_array_equal(values.real_array(inside, "x", **bounds), inside)
    message = refused(values.real_array, [inside[0], *outside], "x", **bounds)
    assert message.endswith(
        f"in rows {values.listing(range(1, len(outside) + 1))}: give finite numbers {words}"
    )


@pytest.mark.parametrize("given", [3, np.int8(3), np.uint64(3), np.array(3), jnp.asarray(3)])
def test_an_integer_of_any_library_is_an_integer(given):
    found = values.integer(given, "n", at_least=3, at_most=3)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize("given", [3.0, "3", True, np.True_, None, [3], np.array([3]), NAN, 3j])
def test_what_is_no_integer_is_refused(given):
    assert refused(values.integer, given, "n") == f"n = {values.shown(given)}: give a whole number"


def test_integers_have_bounds_too():
    assert refused(values.integer, 0, "n", at_least=1) == (
        "n = 0: give a whole number of at least 1"
    )
    assert refused(values.integer, 2**70, "n", at_most=9).endswith("of at most 9")


@pytest.mark.parametrize("given", [True, np.True_, np.array(True), jnp.asarray(True)], ids=repr)
def test_a_boolean_of_any_library_is_a_boolean(given):
    assert values.boolean(given, "b") is True


@pytest.mark.parametrize("given", [1, 0, "True", "F", None, [True], np.array([True]), NAN])
def test_what_is_no_boolean_is_refused(given):
    assert refused(values.boolean, given, "b") == (f"b = {values.shown(given)}: give True or False")


# Words


@pytest.mark.parametrize("given", ["", "  ", None, 3, b"x", ["x"]])
def test_what_is_no_text_is_refused(given):
    assert values.text("x y", "t") == "x y"
    assert "give text" in refused(values.text, given, "t")


@pytest.mark.parametrize("given", ["ful", "", 1, True, [], ["full"], np.array(["full"]), {}])
def test_a_choice_is_one_of_those_there_are(given):
    allowed = (None, "isotropic", "full")
    assert values.choice("full", "cell", allowed) == "full"
    assert values.choice(None, "cell", allowed) is None
    message = refused(values.choice, given, "cell", allowed)
    assert message.startswith(f"cell = {values.shown(given)}: allowed are None, isotropic, full")
    # Of texts alone is there a nearest.
    assert ("did you mean" in message) == ("full" in str(given) or given == "ful")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "give a name"),
        (3, "give a name"),
        (None, "give a name"),
        ({"A": 1}, "give a name"),
        (["A", "A"], "'A' is given twice"),
        (["A", 3], "3 is no name"),
        (["A", ""], "'' is no name"),
        (" ", "' ' is no name"),
        (np.array([1, 2]), "1 is no name"),
        (np.array([["A"]]), "give a name"),
    ],
    ids=repr,
)
def test_names_are_texts_each_once(given, words):
    assert words in refused(values.distinct_names, given, "species")


def test_one_name_is_one_name():
    assert values.distinct_names("Ar", "species") == ("Ar",)
    assert values.distinct_names(np.array(["Ar", "Kr"]), "species") == ("Ar", "Kr")


# Arrays


@pytest.mark.parametrize(
    "given",
    [[[1, 2]], [[1.0, 2]], np.array([[1, 2]], np.float32), jnp.array([[1, 2]]), ((1, np.int8(2)),)],
    ids=repr,
)
def test_numbers_of_any_precision_are_an_array_of_doubles(given):
    found = values.real_array(given, "x", (1, "n"))
    assert found.dtype == np.float64
    assert found.tolist() == [[1.0, 2.0]]


def test_an_array_is_a_copy():
    given = np.zeros(3)
    found = values.real_array(given, "x")
    given[:] = 1.0
    assert found.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("12", "x = '12': give numbers"),
        (["1", "2"], "give numbers"),
        (None, "x = None: give numbers"),
        ([None, 1.0], "give numbers"),
        ([True, False], "give numbers"),
        ([True, 2.0], "give numbers"),
        ([np.True_, 2.0], "give numbers"),
        ([[1.0], [1.0, 2.0]], "give numbers"),
        ([1j], "give numbers"),
        ({"a": 1}, "give numbers"),
        ({1, 2}, "give numbers"),
        ([ANYTHING], "give numbers"),
        (np.array(["2020"], "datetime64[Y]"), "give numbers"),
        ([10**400], "give numbers"),
        ([0.0, NAN, INF], "x = [0.0, nan, inf] is not finite in rows 1, 2: give finite numbers"),
        (np.full(9, NAN), "x is not finite in rows 0, 1, 2, 3, 4, 5, 6, 7 and 1 more: give"),
        (NAN, "x = nan is not finite: give a finite number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_array_of_numbers_is_refused(given, words):
    assert words in refused(values.real_array, given, "x")


def test_a_shape_is_asked_for_by_sizes_and_letters():
    assert values.real_array(np.zeros((2, 3)), "x", ("n", 3)).shape == (2, 3)
    assert refused(values.real_array, np.zeros((2, 2)), "x", ("n", 3)) == (
        "x has shape (2, 2): give (n, 3)"
    )
    assert refused(values.real_array, [1.0], "x", ()) == "x has shape (1,): give one number"
    assert refused(values.real_array, 1.0, "x", (2,)) == "x has shape (): give (2,)"
    assert values.real_array([NAN], "x", finite=False).shape == (1,)


def test_a_traced_array_has_a_kind_and_a_shape():
    def doubled(x):
        return 2.0 * values.real_array(x, "x", (2,), above=0.0)

    assert jax.eval_shape(doubled, jnp.zeros(2, jnp.float32)).dtype == jnp.float64
    assert jax.vmap(doubled)(jnp.ones((3, 2))).shape == (3, 2)
    assert refused(jax.eval_shape, doubled, jnp.zeros(3)) == "x has shape (3,): give (2,)"
    assert "give numbers" in refused(jax.eval_shape, doubled, jnp.zeros(2, bool))
    assert "being traced" in refused(jax.eval_shape, lambda x: values.real(x, "x"), jnp.zeros(()))
    assert values.is_traced([1.0, "a"]) is False


# Indices and masks


def test_indices_count_from_either_end():
    assert values.index_array([0, -1, 2], "i", 3).tolist() == [0, 2, 2]
    assert values.index_array(np.array([[1]], np.uint8), "i", 3, (1, 1)).dtype == np.int64
    assert values.index_array([], "i", 3).tolist() == []
    assert values.index(-1, "i", 3) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.0], "give whole numbers"),
        ([True], "give whole numbers"),
        ([0, True], "give whole numbers"),
        (["0"], "give whole numbers"),
        ("0", "give whole numbers"),
        ([[0], [0, 1]], "give whole numbers"),
        ([2**70], "give whole numbers"),
        ([3, -4], "there is no 3, -4; allowed are 0 to 2"),
        (np.array([2**32]), "there is no 4294967296"),
    ],
    ids=repr,
)
def test_what_is_no_index_is_refused(given, words):
    assert words in refused(values.index_array, given, "i", 3)
    # A mask consists of booleans or of indices.
    if given != [True]:
        assert "i = " in refused(values.mask, given, "i", 3)


def test_a_negative_index_is_refused_where_there_is_no_end_to_count_from():
    message = refused(values.index_array, [-1], "i", 3, from_end=False)
    assert "there is no -1; allowed are 0 to 2" in message
    assert "there is none" in refused(values.index, 3, "i", 3)
    assert "give a whole number" in refused(values.index, 1.0, "i", 3)


def test_booleans_are_a_mask_and_integers_are_indices():
    assert values.mask([True, False, True], "m", 3).tolist() == [True, False, True]
    assert values.mask([2, 0], "m", 3).tolist() == [True, False, True]
    assert values.mask(jnp.array([-1]), "m", 3).tolist() == [False, False, True]
    assert values.mask([], "m", 3).tolist() == [False, False, False]
    given = np.array([True, False])
    found = values.mask(given, "m", 2)
    given[:] = False
    assert found.tolist() == [True, False]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([True], "m has shape (1,): give a mask of shape (3,), or indices"),
        ([[True, False, True]], "give a mask of shape (3,)"),
        ([0, 0, 1, 1], "0, 1 is given twice"),
        ([0, -3], "0 is given twice"),
        (0, "m has shape (): give (n,)"),
        ("all", "give a mask of booleans, or indices"),
        (None, "give a mask of booleans, or indices"),
        ({0, 1}, "give a mask of booleans, or indices"),
    ],
    ids=repr,
)
def test_what_is_no_mask_is_refused(given, words):
    assert words in refused(values.mask, given, "m", 3)


def test_what_is_traced_passes_where_it_may():
    def chosen(traced, given):
        return values.mask(given, "m", 2, traced=traced), values.index_array(
            jnp.argsort(given), "i", 2, traced=traced
        )

    given = jnp.array([True, False])
    assert jax.eval_shape(lambda m: chosen(True, m), given)[0].shape == (2,)
    assert "being traced" in refused(jax.eval_shape, lambda m: chosen(False, m), given)
    assert "give a mask" in refused(jax.eval_shape, lambda m: chosen(True, m), jnp.arange(2))


# Everything else


def test_a_class_is_asked_for_by_what_to_give():
    assert values.instance(3, "n", int, "an int") == 3
    assert refused(values.instance, "3", "n", int, "an int") == "n is a str: give an int"


def test_what_is_shown_is_one_short_line():
    assert values.shown("a\nb") == r"'a\nb'"
    assert values.shown(np.eye(2)).count("\n") == 0
    assert len(values.shown(["x" * 100] * 10)) == 80
    assert values.shown("/folder" * 30 + "/study.toml").endswith("/study.toml'")
    assert values.listing(range(10), 3) == "0, 1, 2 and 7 more"
    assert values.nearest("sigm", ["sigma", "epsilon"]) == "; did you mean 'sigma'?"
    assert values.nearest("nothing", ["epsilon", "sigma"]) == ""
    # What a table is called is near to its entries.
    tables = ["epsilon[Ar-Ar]", "sigma[Ar-Ar]", "sigma[Ar-Kr]"]
    assert values.nearest("sigmo", tables) == "; did you mean 'sigma[Ar-Ar]'?"
    assert values.nearest("lenard", ["lennard", "leonard", "x"], most=2).count(" or ") == 1


def test_what_cannot_be_shown_is_named_by_its_kind():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no words")

    assert refused(values.real, Broken(), "x") == "x = a Broken: give a finite number"
    assert refused(values.integer, 10**5000, "n", at_most=9).startswith("n = a int: give")


def test_a_table_whose_keys_have_no_order_is_refused_like_any_other():
    # JAX sorts the keys of a table to look into it.
    with pytest.raises(InputError, match="name"):
        values.mask({"a": 0, 0: 0}, "name", 3)
    with pytest.raises(InputError, match="name"):
        values.real({"a": 0, 0: 0}, "name")


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ([1, 2], [1, 2]),
        ((), []),
        (np.array([3]), [3]),
        (np.array(3), None),
        ("ab", None),
        (3, None),
    ],
)
def test_items_are_what_something_holds_if_it_holds_several(value, held):
    assert values.items(value) == held
