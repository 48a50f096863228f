"""Functions that atomic cluster expansions are made of: radial, spherical, of densities.

Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021); R. Drautz, Phys. Rev. B 99, 014104 (2019).
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Densities within which the embedding FinnisSinclair is a straight line, and 1 / that where it
#: becomes a power.
LINEAR_DENSITY, INVERSE_DENSITY = 1e-10, 1e6
#: Exponents m as near to 1 are taken for it in a quotient, in whose place a series stands.
SERIES_WITHIN, SERIES_TERMS = 1e-2, 9


def chebyshev(x: Float[Array, "..."], count: int) -> Float[Array, "k ..."]:
    """The first polynomials of Chebyshev, T_0 to T_(count - 1)."""
    found = [jnp.ones_like(x), x]
    while len(found) < count:
        found.append(2.0 * x * found[-1] - found[-2])
    return jnp.stack(found[:count])


def cheb_pow(
    r: Float[Array, "..."], decay: Array, cutoff: Array, width: Array, count: int
) -> Float[Array, "k ..."]:
    """(1 - T_k(x)) / 2 for k = 1 to count, with x = 1 - 2 (1 - r / cutoff)^decay."""
    x = 1.0 - 2.0 * (1.0 - r / cutoff) ** decay
    return 0.5 - 0.5 * chebyshev(x, count + 1)[1:]


def cheb_linear(
    r: Float[Array, "..."], decay: Array, cutoff: Array, width: Array, count: int
) -> Float[Array, "k ..."]:
    """(1 - T_k(x)) / 2 for k = 1 to count, with x = 1 - r / cutoff."""
    return 0.5 - 0.5 * chebyshev(1.0 - r / cutoff, count + 1)[1:]


def cheb_exp_cos(
    r: Float[Array, "..."], decay: Array, cutoff: Array, width: Array, count: int
) -> Float[Array, "k ..."]:
    """1, then (1 - T_k(x)) / 2 for k = 1 to count - 1, times (1 + cos(pi r / cutoff)) / 2.

    With x = 1 - 2 (exp(-decay r / cutoff) - exp(-decay)) / (1 - exp(-decay)); and times
    (1 + cos) / 2 of the angle from 0 to pi within the last width before the cutoff.
    """
    x = 1.0 - 2.0 * jnp.expm1(decay * (1.0 - r / cutoff)) / jnp.expm1(decay)
    envelope = 0.5 * (1.0 + jnp.cos(jnp.pi * r / cutoff))
    within = jnp.clip((r - (cutoff - width)) / jnp.where(width > 0.0, width, 1e-100), 0.0, 1.0)
    envelope = envelope * 0.5 * (1.0 + jnp.cos(jnp.pi * within))
    first, others = jnp.ones_like(x)[None], 0.5 - 0.5 * chebyshev(x, max(count, 2))[1:count]
    return envelope[None] * jnp.concatenate([first, others])


def simplified_bessel(
    r: Float[Array, "..."], decay: Array, cutoff: Array, width: Array, count: int
) -> Float[Array, "k ..."]:
    """Orthonormal sums of sin(k pi r / cutoff) / r whose value and slope vanish at the cutoff.

    E. Kocer, J. K. Mason, H. Erturk, AIP Advances 10, 015021 (2020).
    """
    # Each function is a sum of waves with fixed weights.
    weights = np.zeros((count, count + 1))
    last = 1.0
    for n in range(count):
        k = (n + 1, n + 2)
        weights[n, n : n + 2] = (-1) ** n * math.sqrt(2.0) * math.pi * k[0] * k[1] / math.hypot(*k)
        if n:
            overlap = n**2 * (n + 2) ** 2 / (4.0 * (n + 1) ** 4 + 1.0)
            norm = 1.0 - overlap / last
            weights[n] += math.sqrt(overlap / last) * weights[n - 1]
            weights[n] /= math.sqrt(norm)
            last = norm
    numbers = np.arange(1.0, count + 2).reshape(-1, *[1] * jnp.ndim(r))
    norms = jnp.broadcast_to(cutoff**-1.5, r.shape)[None]
    return jnp.tensordot(weights, jnp.sinc(numbers * (r / cutoff)[None]) * norms, 1)


RADIAL: dict[str, Callable[..., Array]] = {
    "ChebPow": cheb_pow, "ChebExpCos": cheb_exp_cos, "ChebLinear": cheb_linear,
    "SBessel": simplified_bessel,
}  # fmt: skip


def switch(x: Float[Array, "..."], end: Array | float, width: Array | float) -> Float[Array, "..."]:
    """From 1 at end - width to 0 at the end, a polynomial of degree 5 between; C2."""
    t = jnp.clip(1.0 + 2.0 * (x - end) / jnp.where(width > 0.0, width, 1e-100), -1.0, 1.0)
    return 0.5 - 0.9375 * t * (1.0 - t * t * (2.0 / 3.0 - t * t / 5.0))


def core_repulsion(
    r: Float[Array, "..."], strength: Array, decay: Array, cutoff: Array
) -> Float[Array, "..."]:
    """|strength| exp(-|decay| r^2) / r (1 + cos(pi r / cutoff)) / 2, in units of energy."""
    envelope = 0.5 * (1.0 + jnp.cos(jnp.pi * r / cutoff))
    return jnp.abs(strength) * jnp.exp(-jnp.abs(decay) * r * r) / r * envelope


def spherical_harmonics(
    x: Float[Array, "..."], y: Float[Array, "..."], z: Float[Array, "..."], momenta: int
) -> Float[Array, "h ..."]:
    """Y_lm of unit vectors, with the phase of Condon and Shortley, by recursion in l.

    They are sqrt(4 pi) times those of unit norm on the sphere: Y_00 is 1, as ML-PACE has it, whose
    files have no such factors.

    Arguments:
        x: first component, as y and z are the others.
        y: second component.
        z: third component.
        momenta: how many l there are, from 0 on.

    Returns:
        For each l in turn 2 l + 1 rows: the real parts of m = 0 to l, the imaginary of 1 to l.
    """
    # Of the Legendre functions without their factor (1 - z^2)^(m/2), which is in (x + i y)^m.
    # One array of each: recursions over stacked ones take five times as long.
    legendre = {(0, 0): jnp.ones_like(z)}
    powers = [(jnp.ones_like(x), jnp.zeros_like(x))]
    for l in range(1, momenta):
        real, imaginary = powers[-1]
        powers.append((real * x - imaginary * y, real * y + imaginary * x))
        legendre[l, l] = -math.sqrt(1.0 + 0.5 / l) * legendre[l - 1, l - 1]
        legendre[l, l - 1] = math.sqrt(2.0 * l + 1.0) * z * legendre[l - 1, l - 1]
        for m in range(l - 1):
            a = math.sqrt((4.0 * l * l - 1.0) / (l * l - m * m))
            b = math.sqrt(((l - 1.0) ** 2 - m * m) / (4.0 * (l - 1.0) ** 2 - 1.0))
            legendre[l, m] = a * (z * legendre[l - 1, m] - b * legendre[l - 2, m])
    found = list[Array]()
    for l in range(momenta):
        found.append(legendre[l, 0])
        found += [legendre[l, m] * powers[m][0] for m in range(1, l + 1)]
        found += [legendre[l, m] * powers[m][1] for m in range(1, l + 1)]
    return jnp.stack(found)


def finnis_sinclair(
    density: Float[Array, "..."], exponent: Float[Array, "..."]
) -> Float[Array, "..."]:
    """sign(rho) |rho|^m, which near zero becomes the line w^(1 - m) rho, w = 1e6."""
    size = jnp.abs(density)
    far = size > LINEAR_DENSITY
    safe = jnp.where(far, size, 1.0)
    cube = jnp.minimum((INVERSE_DENSITY * safe) ** 3, 700.0)
    slope = INVERSE_DENSITY ** (1.0 - exponent)
    power = -jnp.expm1(-cube) * safe**exponent + slope * jnp.exp(-cube) * safe
    return jnp.where(far, jnp.where(density < 0.0, -power, power), slope * density)


def finnis_sinclair_shifted_scaled(
    density: Float[Array, "..."], exponent: Float[Array, "..."]
) -> Float[Array, "..."]:
    """sign(rho) ((|rho| + s exp(-|rho|))^m - s^m exp(-|rho|)) with s = m^(-1/(m - 1)).

    Where m is 1 that is rho.
    """
    near = exponent - 1.0
    series = sum((-near) ** power / (power + 1.0) for power in range(SERIES_TERMS))
    safe = jnp.where(jnp.abs(near) < SERIES_WITHIN, 1.0, near)
    quotient = jnp.where(jnp.abs(near) < SERIES_WITHIN, series, jnp.log1p(safe) / safe)
    # Its slope at zero is that from above.
    sign = jnp.where(density < 0.0, -1.0, 1.0)
    size = sign * density
    start = jnp.exp(-quotient - size)
    return sign * ((size + start) ** exponent - jnp.exp(-exponent * quotient - size))


EMBEDDING: dict[str, Callable[..., Array]] = {
    "FinnisSinclair": finnis_sinclair,
    "FinnisSinclairShiftedScaled": finnis_sinclair_shifted_scaled,
}
