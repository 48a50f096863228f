"""Losses of machine learning, of one prediction or entry by entry of many; names follow JAXopt 0.8.

Where a loss has a kink its derivative is that of one side, or the mean of both.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from mdsens.errors import InputError
from mdsens.layers.checks import float_array, known_real
from mdsens.layers.closed_form_projections import simplex
from mdsens.values import is_traced, shown

__all__ = [
    "binary_hinge_loss",
    "binary_logistic_loss",
    "binary_perceptron_loss",
    "binary_sparsemax_loss",
    "huber_loss",
    "make_fenchel_young_loss",
    "multiclass_hinge_loss",
    "multiclass_logistic_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "sparse_plus",
    "sparse_sigmoid",
]


def huber_loss(
    target: Real[ArrayLike, "..."], pred: Real[ArrayLike, "..."], delta: ArrayLike = 1.0
) -> Float[Array, "..."]:
    """The squared error, growing only linearly beyond a distance.

    Arguments:
        target: what should be predicted.
        pred: what is, of the same shape.
        delta: the distance, above 0.

    Returns:
        r^2 / 2 for r = |target - pred| <= delta, else delta (r - delta / 2).

    Raises:
        InputError: if `delta` is not above 0.

    Huber 1964, Ann. Math. Statist. 35, 73.
    """
    known_real(delta, "delta", above=0.0)
    return _huber(target, pred, delta)


# Each loss is one program: eager operations are compiled each on its own.
@jax.jit
def _huber(target: ArrayLike, pred: ArrayLike, delta: ArrayLike) -> Array:
    difference = jnp.asarray(target) - pred
    # r^2 / 2 of the part within, and a slope of delta for what is beyond.
    within = jnp.clip(difference, jnp.negative(delta), delta)
    return within * (difference - 0.5 * within)


def binary_logistic_loss(
    label: Int[ArrayLike, "..."], logit: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The negative log-likelihood of labels, log(1 + exp(-+ logit)).

    Arguments:
        label: 0 or 1.
        logit: the logarithm of the odds of 1.

    Returns:
        A number for each.

    Raises:
        InputError: if a known label is neither 0 nor 1.
    """
    return _binary_logistic(*_label_and_score(label, logit))


@jax.jit
def _binary_logistic(label: Array, logit: Array) -> Array:
    return jax.nn.softplus(-_margin(label, logit))


def binary_sparsemax_loss(
    label: Int[ArrayLike, "..."], logit: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The Fenchel-Young loss of the sparse sigmoid.

    Arguments as in `binary_logistic_loss`, and the same errors.

    Returns:
        `sparse_plus(-logit)` for a label of 1, `sparse_plus(logit)` for 0.

    Blondel, Martins & Niculae 2020, J. Mach. Learn. Res. 21, 35, section 4.4.
    """
    return _binary_sparsemax(*_label_and_score(label, logit))


@jax.jit
def _binary_sparsemax(label: Array, logit: Array) -> Array:
    return sparse_plus(-_margin(label, logit))


def binary_hinge_loss(
    label: Int[ArrayLike, "..."], score: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """The loss of support vector machines.

    Arguments as in `binary_logistic_loss`, and the same errors.

    Returns:
        max(0, 1 -+ score).
    """
    return _binary_hinge(*_label_and_score(label, score))


@jax.jit
def _binary_hinge(label: Array, score: Array) -> Array:
    return jnp.maximum(0, 1 - _margin(label, score))


def binary_perceptron_loss(
    label: Int[ArrayLike, "..."], score: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """By how much a score has the wrong sign.

    Arguments as in `binary_logistic_loss`, and the same errors.

    Returns:
        max(0, -+ score).
    """
    return _binary_perceptron(*_label_and_score(label, score))


@jax.jit
def _binary_perceptron(label: Array, score: Array) -> Array:
    return jnp.maximum(0, -_margin(label, score))


@jax.jit
def sparse_plus(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The softplus whose tails are exact: 0 up to -1, (x + 1)^2 / 4 between, x from 1 on.

    Its derivative is `sparse_sigmoid`.
    """
    x = jnp.asarray(x)
    inside = jnp.clip(x, -1, 1)
    return jnp.where(x >= 1, x, (inside + 1) ** 2 / 4)


@jax.jit
def sparse_sigmoid(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """The sigmoid whose tails are exact: 0 up to -1, (x + 1) / 2 between, 1 from 1 on."""
    return (jnp.clip(jnp.asarray(x), -1, 1) + 1) / 2


def multiclass_logistic_loss(
    label: Int[ArrayLike, "..."], logits: Real[ArrayLike, "... classes"]
) -> Float[Array, "..."]:
    """The negative log-likelihood of a class, logsumexp(logits - logits[label]).

    Arguments:
        label: the class, from 0 to classes - 1.
        logits: its logarithm of probability, up to a constant, and that of all others.

    Returns:
        A number for each label.

    Raises:
        InputError: if a label is no whole number, or a known one is no class.
    """
    return _multiclass_logistic(*_label_and_scores(label, logits))


@jax.jit
def _multiclass_logistic(label: Array, logits: Array) -> Array:
    relative, right = _relative_to_label(label, logits)
    if relative.shape[-1] == 1:
        return relative[..., 0]
    # log(1 + sum over the others), which keeps its digits where the label is almost certain.
    return jax.nn.softplus(jax.nn.logsumexp(relative, axis=-1, where=~right))


def multiclass_sparsemax_loss(
    label: Int[ArrayLike, "..."], scores: Real[ArrayLike, "... classes"]
) -> Float[Array, "..."]:
    """The Fenchel-Young loss of the projection onto the simplex (sparsemax).

    Arguments as in `multiclass_logistic_loss`, and the same errors.

    Returns:
        <p, s - s[label]> + (1 - |p|^2) / 2 with p the projection of s; its gradient is p minus the
        label's unit vector.

    Martins & Astudillo 2016, arXiv 1602.02068, equation 24.
    """
    return _multiclass_sparsemax(*_label_and_scores(label, scores))


@jax.jit
def _multiclass_sparsemax(label: Array, scores: Array) -> Array:
    relative, _ = _relative_to_label(label, scores)
    scores = jnp.broadcast_to(scores, relative.shape)
    p = jnp.vectorize(lambda s: simplex(s, jnp.ones((), s.dtype)), signature="(n)->(n)")(scores)
    # Classes with a score of -inf have no part in it.
    known = jnp.where(p == 0, 0, relative)
    return jnp.sum(p * known, axis=-1) + 0.5 * (1 - jnp.sum(p**2, axis=-1))


def multiclass_hinge_loss(
    label: Int[ArrayLike, "..."], scores: Real[ArrayLike, "... classes"]
) -> Float[Array, "..."]:
    """By how much another class comes nearer than 1 to the score of the right one.

    Arguments as in `multiclass_logistic_loss`, and the same errors.

    Returns:
        max_k (s_k + [k != label]) - s[label].

    Crammer & Singer 2001, J. Mach. Learn. Res. 2, 265.
    """
    return _multiclass_hinge(*_label_and_scores(label, scores))


@jax.jit
def _multiclass_hinge(label: Array, scores: Array) -> Array:
    relative, right = _relative_to_label(label, scores)
    return jnp.max(relative + jnp.where(right, 0, 1), axis=-1)


def multiclass_perceptron_loss(
    label: Int[ArrayLike, "..."], scores: Real[ArrayLike, "... classes"]
) -> Float[Array, "..."]:
    """By how much the highest score is above that of the right class.

    Arguments as in `multiclass_logistic_loss`, and the same errors.

    Returns:
        max_k s_k - s[label].

    Collins 2002, EMNLP 10, 1.
    """
    return _multiclass_perceptron(*_label_and_scores(label, scores))


@jax.jit
def _multiclass_perceptron(label: Array, scores: Array) -> Array:
    relative, _ = _relative_to_label(label, scores)
    return jnp.max(relative, axis=-1)


def make_fenchel_young_loss(
    max_fun: Callable[..., Float[Array, ""]],
) -> Callable[..., Float[Array, ""]]:
    """The loss whose gradient is the gradient of a regularised maximum minus the truth.

    Arguments:
        max_fun: F(scores, *args, **kwargs) -> scalar, convex, such as `jax.nn.logsumexp` or what
            `make_perturbed_max` returns.

    Returns:
        `loss(y_true, scores, *args, **kwargs)` = F(scores) - <scores, y_true>, with gradient
        grad F(scores) - y_true. It differs from a Fenchel-Young loss by a function of `y_true`.

    Blondel, Martins & Niculae 2020, J. Mach. Learn. Res. 21, 35, definition 2.
    """
    if not callable(max_fun):
        raise InputError(f"max_fun = {shown(max_fun)}: give a function")

    def loss(
        y_true: Real[ArrayLike, "..."], scores: Real[ArrayLike, "..."], *args: Any, **kwargs: Any
    ) -> Float[Array, ""]:
        if jnp.shape(y_true) != jnp.shape(scores):
            raise InputError(
                f"y_true has shape {jnp.shape(y_true)}: give that of the scores, "
                f"{jnp.shape(scores)}, such as a row with a single 1 for a class"
            )
        return max_fun(scores, *args, **kwargs) - jnp.vdot(y_true, scores)

    return loss


def _label_and_score(label: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays, once they are known to be some."""
    if not is_traced(label) and not np.isin(label, (0, 1)).all():
        raise InputError(f"label = {shown(np.asarray(label))}: give 0 or 1")
    return jnp.asarray(label), float_array("score", score)


def _margin(label: Array, score: Array) -> Array:
    """The score for label 1, minus the score for 0."""
    return jnp.where(label != 0, score, -score)


def _label_and_scores(label: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays, once labels are known to be classes."""
    scores = float_array("scores", scores)
    if scores.ndim == 0:
        raise InputError("scores is one number: give one for each class, along the last axis")
    if not jnp.issubdtype(jnp.result_type(label), jnp.integer):
        raise InputError(f"label holds {jnp.result_type(label)}: give whole numbers")
    classes = scores.shape[-1]
    if not is_traced(label) and not np.isin(label, np.arange(classes)).all():
        raise InputError(
            f"label = {shown(np.asarray(label))}: give classes from 0 to {classes - 1}"
        )
    return jnp.asarray(label), scores


def _relative_to_label(label: Array, scores: Array) -> tuple[Array, Array]:
    """The scores minus that of the right class, and which one that is."""
    classes = scores.shape[-1]
    labels = jnp.expand_dims(label, -1)
    right = labels == jnp.arange(classes).reshape((1,) * (labels.ndim - 1) + (classes,))
    # A class that is none, which only compiled code can be given, has no score.
    chosen = jnp.sum(jnp.where(right, scores, 0), axis=-1, keepdims=True)
    chosen = jnp.where(jnp.any(right, axis=-1, keepdims=True), chosen, jnp.nan)
    # Zero for the class itself, also where its score is -inf; not a number where that is none.
    return jnp.where(right & ~jnp.isnan(chosen), 0, scores - chosen), right
