"""Calls of jax-md's functions, with everything in double precision and nothing ignored.

jax-md makes single precision of Python's numbers, finds images by the nearest one alone, and lets
slots without a neighbour stand at distance zero, where derivatives are not numbers. It is given
arrays of double precision here, every image as a neighbour of its own, and distant places in slots
that hold none.
"""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdsens.errors import InputError
from mdsens.modules import Module
from mdsens.potentials.jax_md_names import EMBEDDED

#: How far a slot without a neighbour is, in ranges of the energy.
DISTANT = 1.7


def jax_md() -> Any:
    """The modules of jax-md, which take long to import.

    Raises:
        InputError: it is not installed.
    """
    try:
        # It computes as it is imported, perhaps while JAX traces something else.
        with as_jax_md_does(), jax.ensure_compile_time_eval():
            from jax_md import energy, partition, smap, space
    except ImportError as error:
        raise InputError(
            f"JaxMD needs jax-md ({error}): install it with pip install 'mdsens[jax-md]'"
        ) from None
    return types.SimpleNamespace(energy=energy, partition=partition, smap=smap, space=space)


@contextlib.contextmanager
def as_jax_md_does() -> Iterator[None]:
    """Let types and ranks be joined as jax-md joins them, whatever the user's settings say."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def pair_function(
    name: str, parameters: dict[str, Any], settings: dict[str, Any]
) -> Callable[..., Array]:
    """A function of distances that jax-md has, cut off as jax-md cuts it off.

    Arguments:
        name: one of ``"pairs"``.
        parameters: arrays of double precision, whole tables, of which the range is made.
        settings: the others.

    Returns:
        A function of distances and of the parameters of each pair.
    """
    energy = jax_md().energy
    function = getattr(energy, name)
    if name in ("soft_sphere", "bks"):
        ending = {"cutoff": jnp.asarray(settings["cutoff"])} if "cutoff" in settings else {}
        return lambda r, of_pair: function(r, **of_pair, **ending)
    unit = jnp.max(parameters["sigma"]) if name == "lennard_jones" else 1.0
    onset, cutoff = (jnp.asarray(unit * settings[key]) for key in ("r_onset", "r_cutoff"))
    switched = energy.multiplicative_isotropic_cutoff(function, onset, cutoff)
    return lambda r, of_pair: switched(r, **of_pair)


class Neighborhood(Module):
    """In the place of jax-md's positions: where an atom is, and for each of its slots an end.

    It stands twice, since jax-md takes an index for a neighbour only if it is another atom's.

    Attributes:
        here: shape (2, D), zero.
        ends: shape (2, K, D), vectors to the neighbours, in units of length.
    """

    here: Float[Array, "*two D"]
    ends: Float[Array, "*two K D"]

    def __getitem__(self, index: Int[Array, "two K"]) -> Float[Array, "two K D"]:
        return self.ends

    def __len__(self) -> int:
        return len(self.here)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of positions."""
        return self.here.shape

    @property
    def dtype(self) -> Any:
        """That of positions."""
        return self.here.dtype


def towards(first: Any, second: Any, **_: Any) -> Any:
    """jax-md's displacement, first less second; of a neighbour's vector from its atom, itself."""
    return first if isinstance(second, Neighborhood) else first - second


def site_energy(
    name: str,
    parameters: dict[str, Any],
    settings: dict[str, Any],
    vectors: Float[Array, "K D"],
    inside: Any,
) -> Float[Array, ""]:
    """The energy of one atom.

    Arguments:
        name: one of ``"sites"``.
        parameters: the tree of parameters.
        settings: the others.
        vectors: to its neighbours, shape (K, D), in units of length; distant where there is none.
        inside: shape (K,), whether there is a neighbour within the range.

    Returns:
        The energy.
    """
    modules = jax_md()
    dense, slots = modules.partition.Dense, len(vectors)
    # Each row's neighbours are the other row's; the one without an index is no atom.
    index = jnp.broadcast_to(jnp.array([[1], [0]]), (2, slots))
    if name == "eam":
        index = jnp.where(inside[None], index, 2)
    neighbor = types.SimpleNamespace(
        idx=index, format=dense, reference_position=jnp.zeros((2, vectors.shape[1]))
    )
    twice = Neighborhood(jnp.zeros((2, vectors.shape[1])), jnp.stack([vectors, vectors]))
    given: dict[str, Any] = {"format": dense, "neighbor_list_fn": lambda *_, **__: None}
    if name == "eam":
        given |= {"cutoff": settings["cutoff"]} | {key: parameters[key] for key in EMBEDDED}
    elif name == "behler_parrinello":
        model = network(name, settings, vectors.shape[1])
        from flax import nnx

        nnx.update(model, nnx.State(parameters))
        return model(twice, neighbor) / 2.0
    else:
        given |= parameters
    make = getattr(modules.energy, f"{name}_neighbor_list")
    _, function = make(towards, 1.0, **given)
    return function(twice, neighbor=neighbor) / 2.0


def network(
    name: str, settings: dict[str, Any], dimension: int, displacement: Any = towards
) -> Any:
    """A network of jax-md's, with weights of its own choice.

    Arguments:
        name: ``"behler_parrinello"`` or ``"graph_network"``.
        settings: how it is made.
        dimension: of space.
        displacement: of positions.

    Returns:
        The network, a function of positions and neighbours.
    """
    modules = jax_md()
    key, sizes = jax.random.PRNGKey(settings["seed"]), tuple(settings["mlp_sizes"])
    if name == "graph_network":
        made = modules.energy.graph_network(
            displacement, settings["r_cutoff"], key=key, mlp_sizes=sizes,
            n_recurrences=settings["n_recurrences"], spatial_dimension=dimension,
        )  # fmt: skip
        return made.model
    _, made = modules.energy.behler_parrinello_neighbor_list(
        displacement, jnp.ones(dimension), key=key, mlp_sizes=sizes,
        sym_kwargs=dict(settings["sym_kwargs"]), format=modules.partition.Dense,
        neighbor_list_fn=lambda *_, **__: None,
    )  # fmt: skip
    return made.model


def weights(name: str, settings: dict[str, Any], dimension: int) -> dict[Any, Any]:
    """The weights that a network begins with, in nested dicts.

    Arguments:
        name: as for `network`, as are all that follow.
        settings: how it is made.
        dimension: of space.

    Returns:
        Arrays in double precision.
    """
    from flax import nnx

    with as_jax_md_does():
        state = nnx.state(network(name, settings, dimension), nnx.Param)
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), nnx.to_pure_dict(state))


def structure_function(
    name: str | None,
    function: Callable[..., Any] | None,
    parameters: dict[str, Any],
    settings: dict[str, Any],
    displacement: Callable[..., Array],
    dimension: int,
) -> Callable[[Float[Array, "N D"]], Float[Array, ""]]:
    """A function of all positions that jax-md, or a user, makes of a displacement function.

    Arguments:
        name: one of ``"structure"``; None: the user's.
        function: the user's.
        parameters: the tree of parameters.
        settings: the others.
        displacement: between two positions.
        dimension: of space.

    Returns:
        The function.
    """
    if function is not None:
        return function(displacement, **parameters)
    if name == "gupta":
        energy = jax_md().energy
        return energy.gupta_potential(displacement, **parameters, cutoff=settings["cutoff"])
    from flax import nnx

    model = network("graph_network", settings, dimension, displacement)
    nnx.update(model, nnx.State(parameters))
    return model
