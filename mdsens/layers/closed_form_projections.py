"""Euclidean projections onto convex sets, argmin_p |x - p|^2 / 2 over the set, and onto spheres.

Each is a closed form, or the exact root of a piecewise linear function. Derivatives are those of
the piece that the point lies on. Where pieces meet, one of them counts: the derivative is always
finite and an element of the generalised Jacobian, which for a projection is symmetric with
eigenvalues between 0 and 1. Names and the order of arguments follow JAXopt 0.8.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree, Real

from mdsens.errors import InputError
from mdsens.layers.box_section import clip, projection_box_section
from mdsens.layers.checks import float_array, members, require
from mdsens.layers.parameters import leafwise, nonnegative, norm, number, point, vdot, vector
from mdsens.values import boolean, integer, is_traced

__all__ = [
    "kl_projection_simplex",
    "projection_affine_set",
    "projection_box",
    "projection_box_section",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_sparse_simplex",
]


def projection_non_negative(x: PyTree[ArrayLike], hyperparams: None = None) -> PyTree[Array]:
    """The nearest point without negative entries.

    Arguments:
        x: a pytree of arrays of any shape.
        hyperparams: ignored; there for solvers that pass it.

    Returns:
        max(x, 0), with the structure of `x`; its derivative at 0 is 0.

    Raises:
        InputError: if `x` holds anything but real floating-point numbers.
    """
    return jax.tree.map(lambda leaf: jnp.where(leaf <= 0, 0, leaf), point(x))


def projection_box(
    x: PyTree[ArrayLike], hyperparams: tuple[PyTree[ArrayLike], PyTree[ArrayLike]]
) -> PyTree[Array]:
    """The nearest point between two bounds.

    Arguments:
        x: a pytree of arrays of any shape.
        hyperparams: `(lower, upper)`, each one number or array for all leaves or a pytree like
            `x`; infinite bounds are allowed.

    Returns:
        min(max(x, lower), upper), with the structure of `x`. On a bound the derivative is that of
        the bound.

    Raises:
        InputError: if `lower` > `upper` anywhere or shapes do not fit.
    """
    x = point(x)
    leaves = jax.tree.leaves(x)
    pair = members("hyperparams", hyperparams, ("lower", "upper"))
    bounds = zip(*(leafwise("a bound", bound, x) for bound in pair), strict=True)
    return jax.tree.unflatten(
        jax.tree.structure(x),
        [clip(leaf, *_bounds(leaf, *bound)) for leaf, bound in zip(leaves, bounds, strict=True)],
    )


def projection_hypercube(x: PyTree[ArrayLike], unit: ArrayLike = 1.0) -> PyTree[Array]:
    """The nearest point with entries between 0 and an edge length.

    Arguments:
        x: a pytree of arrays of any shape.
        unit: the edge length, one number or array for all leaves or a pytree like `x`.

    Returns:
        min(max(x, 0), unit), with the structure of `x`.

    Raises:
        InputError: if the edge is negative.
    """
    return projection_box(x, (0.0, unit))


def projection_simplex(x: Real[ArrayLike, "n"], value: ArrayLike = 1.0) -> Float[Array, "n"]:
    """The nearest point with no negative entry and a given sum.

    Arguments:
        x: the vector to project, **shape** (n,); entries of -inf, of which it may have some, are
            projected to 0.
        value: the sum, a number >= 0.

    Returns:
        A vector of **shape** (n,). The derivative in both arguments takes O(n).

    Raises:
        InputError: if `value` is negative or `x` is not a vector.

    p = max(x - tau, 0) with tau by sorting: Duchi et al. 2008, figure 1. On the support S the
    Jacobian is 1 - 1 1^T / |S|: Martins and Astudillo 2016, arXiv 1602.02068, equation 11.
    """
    x = vector("x", x, excluded=True)
    return simplex(x, nonnegative("value", 1.0 if value is None else value, x.dtype))


def projection_sparse_simplex(
    x: Real[ArrayLike, "n"],
    max_nz: int,
    use_approx_max_nz: bool = False,
    value: ArrayLike = 1.0,
) -> Float[Array, "n"]:
    """The nearest point with no negative entry, a given sum and at most so many positive entries.

    Arguments:
        x: the vector to project, **shape** (n,).
        max_nz: the largest number of positive entries, at least 1.
        use_approx_max_nz: find the largest entries approximately, fast on accelerators.
        value: the sum, a number >= 0.

    Returns:
        A vector of **shape** (n,).

    Raises:
        InputError: if `value` is negative, `x` is not a vector or `max_nz` is out of range.

    The projection of the largest entries alone: Kyrillidis et al. 2013, arXiv 1206.1529, theorem 1.
    """
    x = vector("x", x, excluded=True)
    max_nz = integer(max_nz, "max_nz", at_least=1, at_most=x.size)
    boolean(use_approx_max_nz, "use_approx_max_nz")
    find = jax.lax.approx_max_k if use_approx_max_nz else jax.lax.top_k
    largest, index = find(x, max_nz)
    return jnp.zeros_like(x).at[index].set(projection_simplex(largest, value))


def kl_projection_simplex(x: Real[ArrayLike, "n"], value: ArrayLike = 1.0) -> Float[Array, "n"]:
    """The point with a given sum that is nearest to exp(x) in the Kullback-Leibler divergence.

    Arguments:
        x: logarithm of the vector to project, **shape** (n,).
        value: the sum, a number >= 0.

    Returns:
        value softmax(x), **shape** (n,).

    Raises:
        InputError: if `value` is negative or `x` is not a vector.
    """
    x = vector("x", x)
    return nonnegative("value", 1.0 if value is None else value, x.dtype) * jax.nn.softmax(x)


def projection_l1_sphere(x: Real[ArrayLike, "n"], value: ArrayLike = 1.0) -> Float[Array, "n"]:
    """The nearest point with a given sum of absolute values.

    Arguments:
        x: the vector to project, **shape** (n,).
        value: the sum, a number >= 0.

    Returns:
        A vector of **shape** (n,). Where entries of `x` are 0 and the nearest point is not unique,
        the one with positive signs.

    Raises:
        InputError: if `value` is negative or `x` is not a vector.
    """
    x = vector("x", x)
    sign = jnp.where(x < 0, -1, 1).astype(x.dtype)
    return sign * projection_simplex(sign * x, value)


def projection_l1_ball(x: Real[ArrayLike, "n"], max_value: ArrayLike = 1.0) -> Float[Array, "n"]:
    """The nearest point whose absolute values sum to no more than a given value.

    Arguments:
        x: the vector to project, **shape** (n,).
        max_value: the largest sum, a number >= 0.

    Returns:
        A vector of **shape** (n,); on the sphere the derivative is that from outside.

    Raises:
        InputError: if `max_value` is negative or `x` is not a vector.

    Duchi et al. 2008, section 4.
    """
    x = vector("x", x)
    max_value = nonnegative("max_value", max_value, x.dtype, finite=False)
    inside = jnp.sum(jnp.abs(x)) < max_value
    return jnp.where(inside, x, projection_l1_sphere(x, jnp.where(inside, 0, max_value)))


def projection_l2_sphere(x: PyTree[ArrayLike], value: ArrayLike = 1.0) -> PyTree[Array]:
    """The nearest point at a given distance from the origin.

    Arguments:
        x: a pytree of arrays of any shape.
        value: the radius, a number >= 0.

    Returns:
        value x / |x|, with the structure of `x`. All points of the sphere are nearest to `x` = 0;
        returned is the one whose entries are equal, with derivative 0 in `x`.

    Raises:
        InputError: if `value` is negative.
    """
    x = point(x)
    leaves = jax.tree.leaves(x)
    size = sum(leaf.size for leaf in leaves)
    if size == 0:
        raise InputError("x has no numbers: the sphere has no point; give at least one")
    value = nonnegative("value", value, leaves[0].dtype)
    length = norm(x)
    safe = jnp.where(length == 0, 1, length)
    units = [jnp.where(length == 0, 1 / math.sqrt(size), leaf / safe) for leaf in leaves]
    return jax.tree.unflatten(
        jax.tree.structure(x),
        [(value * unit).astype(leaf.dtype) for unit, leaf in zip(units, leaves, strict=True)],
    )


def projection_l2_ball(x: PyTree[ArrayLike], max_value: ArrayLike = 1.0) -> PyTree[Array]:
    """The nearest point no farther than a given distance from the origin.

    Arguments:
        x: a pytree of arrays of any shape.
        max_value: the radius, a number >= 0.

    Returns:
        x min(1, max_value / |x|), with the structure of `x`; on the sphere the derivative is that
        from outside.

    Raises:
        InputError: if `max_value` is negative.
    """
    x = point(x)
    max_value = nonnegative("max_value", max_value, jax.tree.leaves(x)[0].dtype, finite=False)
    length = norm(x)
    inside, safe = length < max_value, jnp.where(length == 0, 1, length)
    radius = jnp.where(inside, 0, max_value)
    return jax.tree.map(lambda leaf: jnp.where(inside, leaf, radius * (leaf / safe)), x)


def projection_linf_ball(x: PyTree[ArrayLike], max_value: ArrayLike = 1.0) -> PyTree[Array]:
    """The nearest point with entries of at most a given size.

    Arguments:
        x: a pytree of arrays of any shape.
        max_value: the largest absolute value, one number or array for all leaves or a pytree like
            `x`.

    Returns:
        min(max(x, -max_value), max_value), with the structure of `x`.

    Raises:
        InputError: if `max_value` is negative.
    """
    return projection_box(x, (jax.tree.map(lambda radius: -radius, max_value), max_value))


def projection_hyperplane(
    x: PyTree[ArrayLike], hyperparams: tuple[PyTree[ArrayLike], ArrayLike]
) -> PyTree[Array]:
    """The nearest point of the hyperplane a . p = b.

    Arguments:
        x: a pytree of arrays of any shape.
        hyperparams: `(a, b)`, the normal with the structure and shapes of `x`, not all 0, and a
            number.

    Returns:
        x - a (a . x - b) / |a|^2, with the structure of `x`.

    Raises:
        InputError: if a = 0.
    """
    x, a, excess = _excess(x, hyperparams)
    return jax.tree.map(lambda leaf, normal: leaf - excess * normal, x, a)


def projection_halfspace(
    x: PyTree[ArrayLike], hyperparams: tuple[PyTree[ArrayLike], ArrayLike]
) -> PyTree[Array]:
    """The nearest point of the halfspace a . p <= b.

    Arguments:
        x: a pytree of arrays of any shape.
        hyperparams: `(a, b)`, the normal with the structure and shapes of `x`, not all 0, and a
            number.

    Returns:
        x - a max(a . x - b, 0) / |a|^2, with the structure of `x`; on the boundary the derivative
        is that from inside.

    Raises:
        InputError: if a = 0.
    """
    x, a, excess = _excess(x, hyperparams)
    excess = jnp.where(excess <= 0, 0, excess)
    return jax.tree.map(lambda leaf, normal: leaf - excess * normal, x, a)


def projection_affine_set(
    x: Real[ArrayLike, "n"],
    hyperparams: tuple[Real[ArrayLike, "m n"], Real[ArrayLike, "m"]],
) -> Float[Array, "n"]:
    """The nearest solution of the linear equations A p = b.

    Arguments:
        x: the vector to project, **shape** (n,).
        hyperparams: `(A, b)`, of **shapes** (m, n) and (m,); rows may depend on each other.

    Returns:
        x - A^+ (A x - b), **shape** (n,). Where rows depend on each other, the derivative in A and
        b is for changes that keep them so.

    Raises:
        InputError: if the equations contradict each other, by more than half the digits.

    Derivative of the pseudo-inverse: Golub and Pereyra 1973, SIAM J. Numer. Anal. 10, 413,
    equation 4.12.
    """
    x = vector("x", x)
    A, b = (
        float_array(name, value, finite=True)
        for name, value in zip("Ab", members("hyperparams", hyperparams, ("A", "b")), strict=True)
    )
    if A.ndim != 2 or A.shape[1] != x.size or b.shape != A.shape[:1]:
        raise InputError(
            f"A and b have shapes {A.shape} and {b.shape}; allowed are (m, {x.size}) and (m,)."
        )
    inverse = jnp.linalg.pinv(A)
    p = x - inverse @ (A @ x - b)
    p = p - inverse @ (A @ p - b)  # rounding of the first step
    size = jnp.linalg.norm(A) * jnp.linalg.norm(p) + jnp.linalg.norm(b)
    consistent = jnp.linalg.norm(A @ p - b) <= jnp.finfo(p.dtype).eps ** 0.5 * size
    message = "the rows of A p = b contradict each other, which leaves no p; change or drop some."
    return require(p, consistent, message)


def _bounds(leaf: Array, lower: ArrayLike, upper: ArrayLike) -> tuple[Array, Array]:
    """The bounds in the precision of what they bound, checked."""
    known = not is_traced((lower, upper))
    ordered = np.less_equal(lower, upper) if known else jnp.less_equal(lower, upper)
    message = "the lower bound is above the upper one somewhere, which leaves no point; swap them."
    lower, upper = number("lower", lower, leaf.dtype), number("upper", upper, leaf.dtype)
    return require((lower, upper), ordered, message)


def _excess(x: PyTree, hyperparams: tuple[PyTree, ArrayLike]) -> tuple[PyTree, PyTree, Array]:
    """The point, the normal in a safe scale, and (a . x - b) / |a|^2 in that scale."""
    x = point(x)
    a, b = members("hyperparams", hyperparams, ("a", "b"))
    a = jax.tree.map(lambda leaf: float_array("a", leaf, finite=True), a)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (a, x)]
    if shapes[0] != shapes[1]:
        raise InputError(f"a has the shapes {shapes[0]}; allowed are those of x, {shapes[1]}.")
    b = number("b", b, jax.tree.leaves(x)[0].dtype, finite=True)
    if b.shape != ():
        raise InputError(f"b has shape {b.shape}; allowed is one number.")
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(a)]
    largest = jnp.max(jnp.stack(sizes))
    scale = jax.lax.stop_gradient(
        require(largest, largest > 0, "the normal a is 0; allowed is one with an entry that is not")
    )
    a = jax.tree.map(lambda leaf: leaf / scale, a)
    return x, a, (vdot(a, x) - b / scale) / vdot(a, a)


# One program each: eager operations are compiled each on its own.
@jax.custom_jvp
@jax.jit
def simplex(x: Array, value: Array) -> Array:
    """The projection onto the simplex, of arrays that nobody looks at."""
    largest = jnp.max(x)
    ordered = jnp.sort(x - largest, descending=True)
    count = jnp.arange(1, x.size + 1, dtype=x.dtype)
    thresholds = (jnp.cumsum(ordered) - value) / count
    # The last entry above its threshold ends the support; the largest entry always belongs to it.
    last = jnp.maximum(jnp.sum(ordered > thresholds), 1) - 1
    return jnp.maximum(x - largest - thresholds[last], 0)


@simplex.defjvp
@jax.jit
def _simplex_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    x, value = primals
    x_dot, value_dot = tangents
    p = simplex(x, value)
    # A simplex of sum 0 is a point; as its sum grows, it moves along the largest entry.
    alone = jnp.arange(x.size) == jnp.argmax(x)
    support = jnp.where(jnp.any(p > 0), p > 0, alone)
    shift = (jnp.sum(jnp.where(support, x_dot, 0)) - value_dot) / jnp.sum(support, dtype=p.dtype)
    return p, jnp.where(support, x_dot - shift, 0).astype(p.dtype)
