"""The measurements with jax-md, in float64."""

import dataclasses
import functools
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax_md import energy, minimize, partition, smap, space  # noqa: E402

from benchmarks.systems import ARGON, FMAX, MAX_STEPS, SILICON, Case  # noqa: E402
from benchmarks.timing import compile_and_repeat, peak_memory, seconds_of  # noqa: E402

#: and crawl for argon; these are the best of a scan.
TIME_STEPS = {"lj": (0.5, 2.0), "sw": (0.0625, 0.25)}
#: Steps per compiled segment, after which the neighbour list is checked for lost pairs.
SEGMENT_STEPS = 100


def pair_energies(r: jax.Array, epsilon: jax.Array, sigma: jax.Array, truncation: str) -> jax.Array:
    """Lennard-Jones with the same truncations as the other programs; zero in padded slots."""

    def plain(r: jax.Array) -> jax.Array:
        x6 = (sigma / r) ** 6
        return 4.0 * epsilon * x6 * (x6 - 1.0)

    cutoff = jnp.asarray(ARGON["cutoff"], jnp.float64)
    within = (r > 0.0) & (r < cutoff)
    safe = jnp.where(within, r, cutoff)
    energies = plain(safe) - plain(cutoff)
    if truncation == "force-shifted":
        energies = energies - (safe - cutoff) * jax.grad(plain)(cutoff)
    return jnp.where(within, energies, 0.0)


def neighbor_list(displacement: Any, box: Any, cutoff: Any, skin: float, **options: Any) -> Any:
    """jax-md's neighbour list; the cutoff must be a Python number to work under jit."""
    return partition.neighbor_list(displacement, box, float(cutoff), skin, **options)


def model_of(case: Case, truncation: str) -> tuple[Any, Any, Any]:
    """Neighbour function, energy function (positions, neighbours) and shift of a case."""
    # Python numbers would become float32.
    number = functools.partial(jnp.asarray, dtype=jnp.float64)
    box = np.full(3, case.box)
    displacement, shift = space.periodic(number(box))
    if case.potential == "lj":
        neighbor = neighbor_list(
            displacement, box, case.interaction_range, case.skin, format=partition.OrderedSparse
        )
        total = smap.pair_neighbor_list(
            functools.partial(pair_energies, truncation=truncation),
            space.canonicalize_displacement_or_metric(displacement),
            epsilon=number(ARGON["epsilon"]),
            sigma=number(ARGON["sigma"]),
        )
        return neighbor, total, shift
    neighbor, total = energy.stillinger_weber_neighbor_list(
        displacement,
        box,
        sigma=number(SILICON["sigma"]),
        A=number(SILICON["A"]),
        B=number(SILICON["B"]),
        lam=number(SILICON["lambda_"]),
        gamma=number(SILICON["gamma"]),
        epsilon=number(SILICON["epsilon"]),
        cutoff=number(case.interaction_range),
        dr_threshold=case.skin,
        neighbor_list_fn=neighbor_list,
    )
    return neighbor, total, shift


def layout_of(case: Case) -> str:
    """Layout of the neighbour list, and the skin."""
    layout = "OrderedSparse" if case.potential == "lj" else "Dense"
    return f"{layout}, skin {case.skin:.2f} Å"


def evaluate(case: Case, options: dict) -> dict:
    """Time an evaluation of energy and forces, and one of a Hessian-vector product."""
    neighbor, total, _ = model_of(case, "shifted")
    positions = jnp.asarray(case.positions())
    neighbors = neighbor.allocate(positions)
    count = case.atom_count
    energy_and_gradient = jax.jit(jax.value_and_grad(total))

    def force() -> None:
        jax.block_until_ready(energy_and_gradient(positions, neighbors))

    compile_s, force_s, repeats = compile_and_repeat(force, options["seconds"])
    value, gradient = energy_and_gradient(positions, neighbors)
    result = {
        "setup": layout_of(case),
        "energy_per_atom": float(value) / count,
        "largest_force": float(jnp.linalg.norm(gradient, axis=1).max()),
        "force_us": 1e6 * force_s / count,
        "force_compile_s": compile_s,
        "force_repeats": repeats,
        "force_memory_mib": peak_memory(),
    }
    vector = jnp.asarray(np.random.default_rng(1).normal(size=(count, 3)))

    @jax.jit
    def product(positions: jax.Array, neighbors: Any, vector: jax.Array) -> jax.Array:
        return jax.jvp(lambda x: jax.grad(total)(x, neighbors), (positions,), (vector,))[1]

    def hessian_product() -> None:
        jax.block_until_ready(product(positions, neighbors, vector))

    compile_s, product_s, repeats = compile_and_repeat(hessian_product, options["seconds"])
    return result | {
        "hvp_us": 1e6 * product_s / count,
        "hvp_compile_s": compile_s,
        "hvp_repeats": repeats,
        "hvp_memory_mib": peak_memory(),
    }


def relax(case: Case, options: dict) -> dict:
    """Relax twice with fire_descent: the first time compiles, the second is the measurement."""
    neighbor, total, shift = model_of(case, "force-shifted")
    dt_start, dt_max = options.get("time_steps", TIME_STEPS[case.potential])
    start, step = minimize.fire_descent(total, shift, dt_start=dt_start, dt_max=dt_max)

    def largest_force(state: Any) -> jax.Array:
        return jnp.linalg.norm(state.force, axis=1).max()

    @jax.jit
    def advance(state: Any, neighbors: Any, limit: jax.Array) -> tuple:
        """Steps until converged, not finite, at the limit, or out of room for neighbours."""

        def unfinished(carry: tuple) -> jax.Array:
            state, neighbors, steps = carry
            going = (largest_force(state) > FMAX) & (steps < limit)
            return going & (neighbors.did_buffer_overflow == 0)

        def one_step(carry: tuple) -> tuple:
            state, neighbors, steps = carry
            # The list must hold for the positions that the step ends at: its skin sees to that.
            state = step(state, neighbor=neighbors)
            return state, neighbors.update(state.position), steps + 1

        return jax.lax.while_loop(unfinished, one_step, (state, neighbors, jnp.asarray(0)))

    start = jax.jit(start)
    refresh = jax.jit(lambda positions, neighbors: neighbors.update(positions))
    positions = jnp.asarray(case.positions())

    def once(neighbors: Any) -> tuple[Any, Any, int, int]:
        neighbors = refresh(positions, neighbors)
        state = start(positions, neighbor=neighbors)
        # fire_descent would keep them in float16.
        state = dataclasses.replace(
            state, dt=jnp.asarray(dt_start, float), alpha=jnp.asarray(0.1, float)
        )
        steps, allocations, in_a_row = 0, 0, 0
        while steps < MAX_STEPS:
            limit = min(SEGMENT_STEPS, MAX_STEPS - steps)
            after, after_neighbors, taken = advance(state, neighbors, jnp.asarray(limit))
            if bool(after_neighbors.did_buffer_overflow):
                # No more room than needed: the work grows with its square for triplets.
                neighbors = neighbor.allocate(state.position, extra_capacity=in_a_row)
                allocations, in_a_row = allocations + 1, in_a_row + 1
                continue
            in_a_row = 0
            state, neighbors, steps = after, after_neighbors, steps + int(taken)
            force = float(largest_force(state))
            if not force > FMAX:
                break
        return jax.block_until_ready(state), neighbors, steps, allocations

    # An allocation compiles everything anew: the second time begins with the room that the first
    # time found necessary, and is spared that.
    first, (_, roomy, _, _) = seconds_of(lambda: once(neighbor.allocate(positions)))
    wall, (state, _, steps, allocations) = seconds_of(lambda: once(roomy))
    np.save(options["positions_file"], np.asarray(state.position))
    return {
        "setup": layout_of(case),
        "note": f"dt {dt_start} to {dt_max}; {allocations} reallocations",
        "evaluations": steps + 1,
        "wall_s": wall,
        "compile_s": max(0.0, first - wall),
        "memory_mib": peak_memory(),
    }
