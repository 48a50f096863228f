"""Objectives as solvers see them: a value, auxiliary output, and a gradient that JAX may derive."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mdsens.errors import InputError
from mdsens.layers.checks import booleans, callables
from mdsens.layers.solver import IterativeSolver
from mdsens.layers.trees import in_precision

__all__ = ["Minimiser"]


class Minimiser(IterativeSolver):
    """A solver that minimises `fun(params, *args, **kwargs)`, or a part of whose objective it is.

    Arguments:
        fun: the objective; it returns a scalar.
        value_and_grad: True: `fun` returns `(value, gradient)`; a function that does: this one is
            used beside `fun`; False: the gradient is by automatic differentiation.
        has_aux: instead of `value` there is `(value, aux)`; `state.aux` is that of the last
            evaluation of the gradient, and has no implicit derivative.
    """

    fun: Callable[..., Any]
    value_and_grad: bool | Callable[..., Any] = eqx.field(kw_only=True, default=False)
    has_aux: bool = eqx.field(kw_only=True, default=False)

    def __check_init__(self) -> None:
        callables(self, "fun")
        booleans(self, "has_aux")
        if not callable(self.value_and_grad):
            booleans(self, "value_and_grad")

    def objective(self, params: PyTree, *args: Any, **kwargs: Any) -> tuple[Array, Any]:
        """The value and the auxiliary output, None without; `jax.grad` gives the gradient."""
        if self.value_and_grad is False:
            return self._split(params, self.fun(params, *args, **kwargs))
        given = self.fun if self.value_and_grad is True else self.value_and_grad

        # The gradient that was given in place of that of automatic differentiation.
        @eqx.filter_custom_jvp
        def evaluate(
            params: PyTree, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Array, Any]:
            return self._split(params, given(params, *args, **kwargs)[0])

        @evaluate.def_jvp  # type: ignore[untyped-decorator]  # Equinox has no annotation here
        def rule(primals: Any, tangents: Any) -> Any:
            (params, args, kwargs), (direction, *_) = primals, tangents
            output, gradient = given(params, *args, **kwargs)
            value, aux = self._split(params, output)
            structure: Any = jax.tree.structure(params)
            slope = [
                jnp.vdot(g, d)
                for g, d in zip(
                    jax.tree.leaves(gradient),
                    structure.flatten_up_to(direction),
                    strict=True,
                )
                if d is not None
            ]
            no_change = jax.tree.map(
                lambda leaf: jnp.zeros_like(leaf) if eqx.is_inexact_array(leaf) else None, aux
            )
            return (value, aux), (sum(slope, start=jnp.zeros_like(value)), no_change)

        return evaluate(params, args, kwargs)

    def value(self, params: PyTree, *args: Any, **kwargs: Any) -> Float[Array, ""]:
        """The value alone."""
        return self.objective(params, *args, **kwargs)[0]

    def evaluate(
        self, params: PyTree, *args: Any, **kwargs: Any
    ) -> tuple[Float[Array, ""], Any, PyTree]:
        """Value, auxiliary output and gradient."""
        (value, aux), gradient = jax.value_and_grad(self.objective, has_aux=True)(
            params, *args, **kwargs
        )
        return value, aux, gradient

    def error_or_nan(self, error: Float[Array, ""], value: Float[Array, ""]) -> Float[Array, ""]:
        """The error, not a number where the objective is not finite, whatever its gradient."""
        return jnp.where(jnp.isfinite(value), error, jnp.nan)

    def _split(self, params: PyTree, output: Any) -> tuple[Array, Any]:
        value, aux = output if self.has_aux else (output, None)
        if jnp.shape(value) != ():
            raise InputError(
                f"fun returned a value of shape {jnp.shape(value)}; allowed is a scalar: sum or "
                "average it, and pass has_aux=True if it returns (value, aux)."
            )
        return in_precision((value,), params)[0], aux
