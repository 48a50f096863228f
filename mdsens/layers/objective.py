"""Objectives of machine learning, made of the losses in `mdsens.layers.loss`."""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from mdsens.errors import InputError
from mdsens.layers.loss import binary_logistic_loss, multiclass_logistic_loss

__all__ = [
    "BinaryLogisticRegression",
    "CompositeLinearFunction",
    "LeastSquares",
    "MulticlassLinearSVMDual",
    "MulticlassLogisticRegression",
    "binary_logistic_loss",
    "binary_logreg",
    "l2_multiclass_logreg",
    "l2_multiclass_logreg_with_intercept",
    "least_squares",
    "multiclass_linear_svm_dual",
    "multiclass_logistic_loss",
    "multiclass_logreg",
    "multiclass_logreg_with_intercept",
    "ridge_regression",
]

Given = Array | np.ndarray
Scalar = float | Float[Array, ""]
Data = tuple[Real[Given, "samples features"], Given]


def _check_labels(name: str, labels: Given, shape: tuple[int, ...], whole: bool = False) -> None:
    """An error for labels of another shape, which would be combined with every prediction."""
    if jnp.shape(labels) != shape:
        raise InputError(f"{name} has shape {jnp.shape(labels)}: give {shape}, one per sample")
    if whole and not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise InputError(f"{name} holds {jnp.result_type(labels)}: give whole numbers")


class CompositeLinearFunction(abc.ABC):
    """A function h(X w) + <b, w>, of which coordinate descent needs only columns of X.

    Subclasses define `subfun` (h), `matrix` (X), `columnwise_lipschitz_const`, and `b` where there
    is one. Call it as `fun(params, *args, **kwargs)`.
    """

    @abc.abstractmethod
    def subfun(
        self, predictions: Real[Array, "samples ..."], *args: Any, **kwargs: Any
    ) -> Float[Array, ""]:
        """h, the function of the predictions X w."""

    @abc.abstractmethod
    def matrix(self, *args: Any, **kwargs: Any) -> Real[Given, "samples blocks"]:
        """X, whose column j belongs to the block j of the parameters."""

    @abc.abstractmethod
    def columnwise_lipschitz_const(self, *args: Any, **kwargs: Any) -> Float[Given, " blocks"]:
        """For every block a Lipschitz constant of the gradient in that block."""

    def b(self, *args: Any, **kwargs: Any) -> Real[Given, "blocks ..."] | None:
        """The linear part, None if there is none."""
        del args, kwargs
        return None

    def __call__(
        self, params: Real[Given, "blocks ..."], *args: Any, **kwargs: Any
    ) -> Float[Array, ""]:
        """The function's value."""
        matrix = self.matrix_for(params, *args, **kwargs)
        predictions = jnp.tensordot(matrix, params, 1)
        value = self.subfun(predictions, *args, **kwargs)
        linear = self.b(*args, **kwargs)
        return value if linear is None else value + jnp.vdot(linear, params)

    def matrix_for(
        self, params: Real[Given, "blocks ..."], *args: Any, **kwargs: Any
    ) -> Real[Given, "samples blocks"]:
        """X, with the check that it has a column per block of the parameters."""
        matrix = self.matrix(*args, **kwargs)
        if jnp.ndim(matrix) != 2 or jnp.shape(params)[:1] != jnp.shape(matrix)[1:]:
            raise InputError(
                f"data[0] has shape {jnp.shape(matrix)} as a matrix of {type(self).__name__}, and "
                f"params {jnp.shape(params)}: give params with one row per column"
            )
        return matrix

    def __eq__(self, other: object) -> bool:
        # Functions of the same class are the same function, so that they compile once.
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class LeastSquares(CompositeLinearFunction):
    """|X w - y|^2 / (2 n) for data (X, y) of n samples."""

    def subfun(self, predictions: Real[Array, "samples ..."], data: Data) -> Float[Array, ""]:
        """h, the function of the predictions X w."""
        _check_labels("data[1]", data[1], predictions.shape)
        return 0.5 * jnp.mean((predictions - data[1]) ** 2)

    def matrix(self, data: Data) -> Real[Given, "samples blocks"]:
        """X, whose column j belongs to the block j of the parameters."""
        return data[0]

    def columnwise_lipschitz_const(self, data: Data) -> Float[Given, " blocks"]:
        """For every block a Lipschitz constant of the gradient in that block."""
        return jnp.sum(data[0] ** 2, axis=0) / data[1].size


class MulticlassLogisticRegression(CompositeLinearFunction):
    """The mean multiclass logistic loss for data (X, labels) and weights (features, classes).

    The largest eigenvalue of the loss's Hessian is at most 1/2: Boehning 1992.
    """

    def subfun(self, predictions: Real[Array, "samples ..."], data: Data) -> Float[Array, ""]:
        """h, the function of the predictions X w."""
        _check_labels("data[1]", data[1], predictions.shape[:1], whole=True)
        return jnp.mean(multiclass_logistic_loss(data[1], predictions))

    def matrix(self, data: Data) -> Real[Given, "samples blocks"]:
        """X, whose column j belongs to the block j of the parameters."""
        return data[0]

    def columnwise_lipschitz_const(self, data: Data) -> Float[Given, " blocks"]:
        """For every block a Lipschitz constant of the gradient in that block."""
        return 0.5 * jnp.mean(data[0] ** 2, axis=0)


class BinaryLogisticRegression(CompositeLinearFunction):
    """The mean of the logistic loss for data (X, labels 0 or 1) and weights (features,)."""

    def subfun(self, predictions: Real[Array, "samples ..."], data: Data) -> Float[Array, ""]:
        """h, the function of the predictions X w."""
        _check_labels("data[1]", data[1], predictions.shape)
        return jnp.mean(binary_logistic_loss(data[1], predictions))

    def matrix(self, data: Data) -> Real[Given, "samples blocks"]:
        """X, whose column j belongs to the block j of the parameters."""
        return data[0]

    def columnwise_lipschitz_const(self, data: Data) -> Float[Given, " blocks"]:
        """For every block a Lipschitz constant of the gradient in that block."""
        return 0.25 * jnp.mean(data[0] ** 2, axis=0)


class MulticlassLinearSVMDual(CompositeLinearFunction):
    """Minus the dual objective of the multiclass support vector machine without intercept.

    |X' (Y - beta)|^2 / (2 l2reg) + <beta, Y - 1> for dual variables beta (samples, classes), whose
    rows lie in the simplex, and data (X, Y) with Y of one row with a single 1 per sample. The
    primal weights are X' (Y - beta) / l2reg.

    Crammer & Singer 2001, J. Mach. Learn. Res. 2, 265, in the form of Blondel et al. 2021, section
    4.1.
    """

    def subfun(
        self, predictions: Real[Array, "features classes"], l2reg: Scalar, data: Data
    ) -> Float[Array, ""]:
        """h, the function of the predictions X' beta."""
        return 0.5 / l2reg * jnp.sum((data[0].T @ data[1] - predictions) ** 2)

    def matrix(self, l2reg: Scalar, data: Data) -> Real[Given, "features samples"]:
        """X', whose column j belongs to the sample j."""
        del l2reg
        return data[0].T

    def columnwise_lipschitz_const(self, l2reg: Scalar, data: Data) -> Float[Given, " samples"]:
        """For every block a Lipschitz constant of the gradient in that block."""
        return jnp.sum(data[0] ** 2, axis=1) / l2reg

    def b(self, l2reg: Scalar, data: Data) -> Real[Given, "samples classes"]:
        """The linear part."""
        del l2reg
        return data[1] - 1


least_squares = LeastSquares()
multiclass_logreg = MulticlassLogisticRegression()
binary_logreg = BinaryLogisticRegression()
multiclass_linear_svm_dual = MulticlassLinearSVMDual()


def ridge_regression(
    params: Real[Given, " features"], l2reg: Scalar, data: Data
) -> Float[Array, ""]:
    """|X w - y|^2 / (2 n) + l2reg |w|^2 / 2 for data (X, y) of n samples."""
    return least_squares(params, data) + 0.5 * l2reg * jnp.sum(params**2)


def l2_multiclass_logreg(
    params: Real[Given, "features classes"], l2reg: Scalar, data: Data
) -> Float[Array, ""]:
    """The mean multiclass logistic loss for data (X, labels) plus l2reg |W|^2 / 2."""
    return multiclass_logreg(params, data) + 0.5 * l2reg * jnp.sum(params**2)


def multiclass_logreg_with_intercept(
    params: tuple[Real[Given, "features classes"], Real[Given, " classes"]], data: Data
) -> Float[Array, ""]:
    """The mean multiclass logistic loss of X W + b for params (W, b) and data (X, labels)."""
    W, b = params
    return jnp.mean(multiclass_logistic_loss(data[1], data[0] @ W + b[None, :]))


def l2_multiclass_logreg_with_intercept(
    params: tuple[Real[Given, "features classes"], Real[Given, " classes"]],
    l2reg: Scalar,
    data: Data,
) -> Float[Array, ""]:
    """The loss of `multiclass_logreg_with_intercept` plus l2reg |W|^2 / 2, the intercept free."""
    return multiclass_logreg_with_intercept(params, data) + 0.5 * l2reg * jnp.sum(params[0] ** 2)
