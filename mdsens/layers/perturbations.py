"""Functions made smooth by random perturbations of their input; names follow JAXopt 0.8.

What has steps, such as the vertex of a polytope that a linear program picks, has no useful
derivative; its mean over random shifts of the input has one of every order. Each mean here is over
the same samples in value and derivatives, and both modes work.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from mdsens.errors import InputError
from mdsens.implicit.arguments import floats_to_arrays
from mdsens.layers.checks import float_array, known_real
from mdsens.values import boolean, integer, shown

__all__ = [
    "Gumbel",
    "Noise",
    "Normal",
    "make_perturbed_argmax",
    "make_perturbed_fun",
    "make_perturbed_max",
]


@runtime_checkable
class Noise(Protocol):
    """A distribution of independent numbers with a smooth, positive density."""

    def sample(self, seed: Array, sample_shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Numbers drawn from it."""

    def log_prob(self, inputs: Num[Array, "..."]) -> Float[Array, "..."]:
        """The logarithm of its density, up to a constant, entry by entry."""


@dataclasses.dataclass(frozen=True)
class Normal:
    """The normal distribution of mean 0 and variance 1."""

    def sample(self, seed: Array, sample_shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Numbers drawn from it."""
        return jax.random.normal(seed, sample_shape)

    def log_prob(self, inputs: Num[Array, "..."]) -> Float[Array, "..."]:
        """The logarithm of its density, up to a constant, entry by entry."""
        return -0.5 * inputs**2


@dataclasses.dataclass(frozen=True)
class Gumbel:
    """The Gumbel distribution, for which the perturbed argmax of a vector is its softmax."""

    def sample(self, seed: Array, sample_shape: tuple[int, ...]) -> Float[Array, "..."]:
        """Numbers drawn from it."""
        return jax.random.gumbel(seed, sample_shape)

    def log_prob(self, inputs: Num[Array, "..."]) -> Float[Array, "..."]:
        """The logarithm of its density, up to a constant, entry by entry."""
        return -inputs - jnp.exp(-inputs)


def make_perturbed_fun(
    fun: Callable[[Array], Array],
    num_samples: int = 1000,
    sigma: float | Float[Array, ""] = 0.1,
    noise: Noise = Gumbel(),  # it is frozen
    control_variate: bool = False,
) -> Callable[[Array, Array], Array]:
    """The mean of a function over random shifts of its input.

    Arguments:
        fun: of an array of any shape, traceable by JAX; it may have steps. What it closes over is
            differentiated as usual.
        num_samples: number of shifts.
        sigma: their size, above 0.
        noise: their distribution, with the methods of `Noise`.
        control_variate: subtract the value without a shift in derivatives, which lowers their
            variance where sigma is small, for one evaluation more.

    Returns:
        `function(inputs, rng)` with a key of `jax.random`: the mean of fun(inputs + sigma Z), with
        derivatives of any order in the inputs and sigma.

    Raises:
        InputError: if `num_samples` or `sigma` is out of its range.

    Derivatives are those of the density: f(u) q(u; x) / q(u; x_0) with u fixed, q the density of x
    + sigma Z, whose first one is Berthet et al. 2020, arXiv 2002.08676, proposition 3.1. Their
    errors fall with the square root of `num_samples`, and grow with the order as powers of 1/sigma.
    """
    _check(fun, num_samples, sigma, noise)
    boolean(control_variate, "control_variate")

    def perturbed(inputs: Num[Array, "..."], rng: Array) -> Array:
        inputs = float_array("inputs", inputs)
        points, weights = _points_and_weights(inputs, rng, num_samples, sigma, noise)
        values = jax.vmap(fun)(points)
        values = values.astype(jnp.result_type(values, inputs))
        weights = weights.reshape(-1, *[1] * (values.ndim - 1))
        # XLA sums a mean in parts: a product with the weights loses digits to rounding.
        if not control_variate:
            return jnp.mean(weights * values, axis=0)
        offset = jnp.asarray(fun(jax.lax.stop_gradient(inputs)), values.dtype)
        return offset + jnp.mean(weights * (values - offset[None]), axis=0)

    return perturbed


def make_perturbed_argmax(
    argmax_fun: Callable[[Array], Array],
    num_samples: int = 1000,
    sigma: float | Float[Array, ""] = 0.1,
    noise: Noise = Gumbel(),
    control_variate: bool = False,
) -> Callable[[Array, Array], Array]:
    """The mean of what an optimiser picks over random shifts of its input.

    Arguments:
        argmax_fun: x -> argmax over y in a set of <x, y>, traceable by JAX.
        num_samples: number of shifts.
        sigma: their size, above 0.
        noise: their distribution.
        control_variate: as in `make_perturbed_fun`.

    Returns:
        `function(inputs, rng)` with a key of `jax.random`: the mean of argmax_fun(inputs + sigma
        Z), with derivatives of any order.

    Raises:
        InputError: as `make_perturbed_fun`.

    Berthet et al. 2020, arXiv 2002.08676, equation 4.
    """
    return make_perturbed_fun(argmax_fun, num_samples, sigma, noise, control_variate)


def make_perturbed_max(
    argmax_fun: Callable[[Array], Array],
    num_samples: int = 1000,
    sigma: float | Float[Array, ""] = 0.1,
    noise: Noise = Gumbel(),
) -> Callable[[Array, Array], Float[Array, ""]]:
    """The mean of the maximum that belongs to an argmax over random shifts of its input.

    Arguments:
        argmax_fun: x -> argmax over y in a set of <x, y>, with the shape of x, traceable by JAX.
        num_samples: number of shifts.
        sigma: their size, above 0.
        noise: their distribution.

    Returns:
        `function(inputs, rng)` with a key of `jax.random`: the mean of <x, argmax_fun(x)> for x =
        inputs + sigma Z. Its gradient is the perturbed argmax, of the same samples.

    Raises:
        InputError: as `make_perturbed_fun`, and if the argmax has another shape than its input.

    Berthet et al. 2020, arXiv 2002.08676, equation 3; `make_fenchel_young_loss` makes it a loss.
    """
    _check(argmax_fun, num_samples, sigma, noise)

    # What is closed over comes as an argument, since rules for derivatives see nothing else.
    @eqx.filter_custom_jvp
    def mean_maximum(inputs: Array, rng: Array, sigma: Array, argmax: Any) -> Array:
        points, _ = _points_and_weights(inputs, rng, num_samples, sigma, noise)
        return jnp.mean(jax.vmap(lambda point: jnp.vdot(point, argmax(point)))(points))

    @mean_maximum.def_jvp  # type: ignore[untyped-decorator]  # Equinox has no annotation here
    def rule(primals: Any, tangents: Any) -> Any:
        # In eager derivatives JAX hands Python floats over as they were.
        inputs, rng, sigma, argmax = jax.tree.map(floats_to_arrays, primals)
        inputs_dot, _, sigma_dot, argmax_dot = tangents
        points, weights = _points_and_weights(inputs, rng, num_samples, sigma, noise)
        picked = jax.vmap(argmax)(points)
        # What is picked stays while the points move (Danskin 1966), unless the set itself changes.
        moved = jnp.zeros_like(points)
        if inputs_dot is not None:
            moved += inputs_dot[None]
        if sigma_dot is not None:
            moved += sigma_dot * (points - inputs[None]) / sigma
        change = jax.vmap(jnp.vdot)(picked, moved)
        dynamic, static = eqx.partition(argmax, eqx.is_inexact_array)
        if jax.tree.leaves(argmax_dot):
            directions = jax.tree.map(
                lambda leaf, dot: jnp.zeros_like(leaf) if dot is None else dot, dynamic, argmax_dot
            )
            change += jax.vmap(jnp.vdot)(
                points,
                jax.jvp(
                    lambda numbers: jax.vmap(eqx.combine(numbers, static))(points),
                    (dynamic,),
                    (directions,),
                )[1],
            )
        return mean_maximum(inputs, rng, sigma, argmax), jnp.mean(weights * change)

    def perturbed(inputs: Num[Array, "..."], rng: Array) -> Float[Array, ""]:
        inputs = float_array("inputs", inputs)
        shape = jax.eval_shape(argmax_fun, inputs).shape
        if shape != inputs.shape:
            raise InputError(
                f"argmax_fun returned the shape {shape}: return that of its input, {inputs.shape}"
            )
        argmax = eqx.filter_closure_convert(argmax_fun, inputs)
        return mean_maximum(inputs, rng, jnp.asarray(sigma, inputs.dtype), argmax)

    return perturbed


def _points_and_weights(
    inputs: Array, rng: Array, num_samples: int, sigma: Any, noise: Noise
) -> tuple[Array, Array]:
    """Perturbed inputs as constants, and weights of 1 with the derivatives of their density."""
    samples = noise.sample(seed=rng, sample_shape=(num_samples, *inputs.shape)).astype(inputs.dtype)
    sigma = jnp.asarray(sigma, inputs.dtype)
    points = jax.lax.stop_gradient(inputs[None] + sigma * samples)
    # Not the samples themselves, so that rounding is the same in both.
    shifts = (points - inputs[None]) / sigma
    axes = tuple(range(1, shifts.ndim))
    log_density = jnp.sum(noise.log_prob(shifts), axis=axes) - inputs.size * jnp.log(sigma)
    # The difference is 0, but not its derivatives.
    return points, jnp.exp(log_density - jax.lax.stop_gradient(log_density))


def _check(fun: Any, num_samples: Any, sigma: Any, noise: Any) -> None:
    if not callable(fun):
        raise InputError(f"the function to perturb is {shown(fun)}: give a function")
    integer(num_samples, "num_samples", at_least=1)
    known_real(sigma, "sigma", above=0.0)
    if not all(callable(getattr(noise, name, None)) for name in ("sample", "log_prob")):
        raise InputError(
            f"noise = {shown(noise)}: give Gumbel(), Normal(), or one with its methods"
        )
