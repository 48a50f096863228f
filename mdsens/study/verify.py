"""Derivatives against finite differences of structures that are relaxed anew."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from mdsens.errors import RelaxationError
from mdsens.relaxation import Equilibrium
from mdsens.sensitivities import Sensitivity, sensitivity
from mdsens.sensitivities.linear_response import linear_response
from mdsens.sensitivities.noise import natural_size, noise_of
from mdsens.sensitivities.reliability import require_reliable
from mdsens.study.differences import Differences, FormulaDifferences, determined, relax_on
from mdsens.study.formulas import qualified
from mdsens.study.study import POSITIONS, Study, StudyStructure
from mdsens.study.study_sensitivity import StudySensitivity, study_sensitivity

#: How often the step is halved before a minimum is given up as not followed.
MOST_HALVINGS = 10
#: A derivative below this part of the largest one has its error taken relative to that part.
SCALE_FLOOR = 1e-3
#: A derivative below this part of an observable's natural size is rounding, and counts as zero.
ROUNDING_FLOOR = 1e-5
#: What can be said of a derivative.
PASSED, FAILED, NOT_JUDGED = "passed", "FAILED", "not judged"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One derivative, both ways.

    Attributes:
        observable: name of the observable or of the formula, or ``"positions"``; of one of several
            structures with its name before it, e.g. ``"bulk.energy"``.
        parameter: name of the parameter.
        implicit: the derivative by implicit differentiation.
        finite_difference: the derivative by finite differences; NaN where there is none.
        error: relative error, see `relative_error`.
        resolution: how large a relative error the differences can tell from none.
        verdict: ``"passed"``; ``"FAILED"``, where the error is above both the tolerance and the
            resolution; or ``"not judged"``, where it is above the tolerance alone.
        reason: why the differences cannot tell; empty where they can.
        step: change of the parameter, in its own unit.
        halvings: how often the step was halved.
    """

    observable: str
    parameter: str
    implicit: np.ndarray | np.float64
    finite_difference: np.ndarray | np.float64
    error: float
    resolution: float
    verdict: str
    reason: str
    step: float
    halvings: int


@dataclasses.dataclass(frozen=True)
class Verification:
    """All comparisons of a study.

    Attributes:
        comparisons: one for each observable and parameter.
        tolerance: largest relative error allowed.
        largest_force: largest force left over in any structure, energy/length.
    """

    comparisons: tuple[Comparison, ...]
    tolerance: float
    largest_force: float

    @property
    def largest_error(self) -> float:
        """The largest relative error that was judged; infinite if one is not a number."""
        errors = np.array([c.error for c in self.comparisons if c.verdict != NOT_JUDGED])
        return float(np.where(np.isnan(errors), np.inf, errors).max(initial=0.0))

    @property
    def not_judged(self) -> tuple[Comparison, ...]:
        """The derivatives that finite differences are too blurred for."""
        return tuple(c for c in self.comparisons if c.verdict == NOT_JUDGED)

    @property
    def passed(self) -> bool:
        """Whether every derivative that could be judged is right, and at least one could be."""
        verdicts = {comparison.verdict for comparison in self.comparisons}
        return FAILED not in verdicts and (PASSED in verdicts or not verdicts)


def verify_study(study: Study, report: Callable[[str], None] | None = None) -> Verification:
    """Compare every derivative of a study with finite differences of re-relaxations.

    Those of formulas are compared with differences between values from all structures, each relaxed
    at the same changes of the parameter.

    Each structure is relaxed as the study says, and then on to a force of 1e-12; so is each with a
    parameter changed a little (see `Differences`), by Newton's method, which stays in its valley.
    The step is chosen for each parameter: by how far rounding and forces left over displace the
    atoms, and so that no pair crosses a distance where the energy is not smooth.

    A finite difference means something only if all points lie in the same minimum. So the atoms'
    displacements at +h and -h must be opposite, those at h double those at h/2, and where
    particles only push, the same pairs must touch; else the step is halved. It is halved, too,
    where the differences change with it by more than the tolerance. What they cannot resolve then
    is not judged.

    Arguments:
        study: from `load_study`.
        report: called with a line of text as the work goes on.

    Returns:
        The Verification.

    Raises:
        UnreliableDerivativeError: the structure is unconverged or unstable.
        RelaxationError: the structure does not relax further.
    """
    say = report or (lambda line: None)
    study.check()
    bases, found, judges = {}, {}, {}
    for name, structure in study.structures.items():
        first = structure.relax()
        require_reliable(first)
        bases[name] = relax_on(structure, first)
        # As far as rounding let it: what was reached is reported.
        mode = study.file.sensitivity.mode
        found[name] = sensitivity(
            bases[name],
            structure.observables,
            study.parameters,
            "forward" if mode == "auto" else mode,
            allow_unconverged=True,
        )
        judges[name] = _judge_of(structure, bases[name], found[name])
    judge = _judge_of_formulas(study_sensitivity(found, study.formulas), judges)
    value_errors = {
        qualified(name, observable): float(np.max(error, initial=0.0))
        for name, of in found.items()
        for observable, error in of.value_errors.items()
    }
    comparisons: dict[tuple[str, str], Comparison] = {}
    largest = max(float(base.largest_force) for base in bases.values())
    for parameter in study.parameters:
        differences: dict[str, Differences] = {}
        shortest = np.inf
        for name, structure in study.structures.items():
            differences[name] = _differences(structure, bases[name], found[name], parameter)
            compared = judges[name].compare(differences[name], _of(name, say))
            shortest = min([shortest, *(c.step for c in compared.values())])
            comparisons |= {
                (qualified(name, o), p): dataclasses.replace(c, observable=qualified(name, o))
                for (o, p), c in compared.items()
            }
        if study.formulas:
            of_formulas = FormulaDifferences(
                study.formulas, differences, value_errors, float(shortest)
            )
            comparisons |= judge.compare(of_formulas, _of("formulas", say))
        largest = max([largest, *(of.largest_force for of in differences.values())])
    names = [formula.name for formula in study.formulas]
    for name, of in found.items():
        names += [qualified(name, observable) for observable in (POSITIONS, *of)]
    ordered = [comparisons[o, name] for o in names for name in study.parameters]
    return Verification(tuple(ordered), study.file.verify.tolerance, largest)


def _of(name: str, say: Callable[[str], None]) -> Callable[[str], None]:
    return (lambda line: say(f"{name}: {line}")) if name else say


def _differences(
    structure: StudyStructure, base: Equilibrium, implicit: Sensitivity, name: str
) -> Differences:
    """Finite differences of a structure along one parameter."""
    tangents = np.asarray(implicit.positions[name]), np.asarray(implicit.cell[name])
    return Differences(
        structure, base, name, implicit.observables.values(), tangents, _uncertainty(base)
    )


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Implicit derivatives, and what it takes to hold finite differences beside them.

    Attributes:
        tolerance: largest relative error allowed.
        parameters: values of the parameters.
        derivatives: by observable, then by parameter.
        value_errors: absolute error of each observable.
        errors: of each derivative.
        naturals: natural size of each observable.
        contact: whether particles only push, so that a pair that parts changes the energy's form.
    """

    tolerance: float
    parameters: dict[str, float]
    derivatives: dict[str, dict[str, np.ndarray | np.float64]]
    value_errors: dict[str, np.ndarray]
    errors: dict[str, dict[str, np.ndarray]]
    naturals: dict[str, float]
    contact: bool

    def compare(
        self, differences: Differences | FormulaDifferences, say: Callable[[str], None]
    ) -> dict[tuple[str, str], Comparison]:
        """All derivatives along one parameter, with as short a step as they need."""
        name, step = differences.name, differences.first_step()
        found: dict[tuple[str, str], Comparison] = {}
        trouble = ""
        for halvings in range(MOST_HALVINGS + 1):
            trouble = differences.trouble(step)
            longest = step / 2 >= differences.shortest
            if not trouble:
                crossing = differences.crossing(step)
                if crossing and self.contact and longest:
                    trouble = crossing
                else:
                    found = self._compared(differences, step, halvings, crossing)
                    # Kinks on both sides can hide from the estimate of an error.
                    unclear = (NOT_JUDGED, FAILED) if crossing else (NOT_JUDGED,)
                    blurred = [c for c in found.values() if c.verdict in unclear]
                    sharper = [c for c in blurred if "rounding" not in c.reason]
                    if not (sharper and longest) or halvings == MOST_HALVINGS:
                        say(f"{name}: step {step:.3g}, largest force left over "
                            f"{differences.largest_force:.1e}")  # fmt: skip
                        return found
                    trouble = sharper[0].reason or crossing
            say(f"{name}: {trouble} at a step of {step:.3g}; halving it")
            step /= 2.0
        reason = f"no step down to {2 * step:.1e} stays in the same minimum ({trouble})"
        return found or {
            (observable, name): Comparison(
                observable, name, ours[name], np.full(np.shape(ours[name]), np.nan), np.nan, np.inf,
                NOT_JUDGED, reason, 2 * step, MOST_HALVINGS,
            )
            for observable, ours in self.derivatives.items()
        }  # fmt: skip

    def _compared(
        self,
        differences: Differences | FormulaDifferences,
        step: float,
        halvings: int,
        crossing: str,
    ) -> dict[tuple[str, str], Comparison]:
        name, found = differences.name, {}
        for observable, ours in self.derivatives.items():
            difference = differences.of(observable, step, self.value_errors[observable])
            own_error = self.errors[observable][name]
            size = compared_size(ours, name, self.parameters, self.naturals[observable])
            error = float(np.linalg.norm(difference.value - ours[name])) / size
            parts = [
                float(np.linalg.norm(part)) / size
                for part in (difference.truncation, difference.noise, own_error)
            ]
            resolution = sum(parts)
            verdict = FAILED
            if error <= self.tolerance:
                verdict = PASSED
            elif error <= resolution:
                verdict = NOT_JUDGED
            reason = ""
            if verdict == NOT_JUDGED:
                smooth = parts[0] <= parts[1] + parts[2]
                reason = crossing or "they change with the step"
                reason = "rounding and residual forces blur them" if smooth else reason
            found[observable, name] = Comparison(
                observable, name, ours[name], difference.value, error, resolution, verdict, reason,
                step, halvings,
            )  # fmt: skip
        return found


def _judge_of(structure: StudyStructure, base: Equilibrium, implicit: Sensitivity) -> _Judge:
    """The judge of one structure, relaxed as far as rounding allows."""
    names, asked = list(implicit.parameters), (POSITIONS, *implicit)
    return _Judge(
        tolerance=structure.file.verify.tolerance,
        parameters=implicit.parameters,
        derivatives={
            o: {name: _implicit(implicit, o, name, base) for name in names} for o in asked
        },
        value_errors={POSITIONS: _uncertainty(base)}
        | {o: np.asarray(error) for o, error in implicit.value_errors.items()},
        errors={POSITIONS: dict.fromkeys(names, np.zeros(()))}
        | {o: {p: np.asarray(e) for p, e in of.items()} for o, of in implicit.errors.items()},
        naturals={o: _natural_size(o, implicit, base) for o in asked},
        contact=base.potential.contact,
    )


def _judge_of_formulas(derivatives: StudySensitivity, judges: Mapping[str, _Judge]) -> _Judge:
    """The judge of formulas: their natural sizes follow from those of their parts."""
    given, one = derivatives.formulas, next(iter(judges.values()))
    naturals = {
        name: float(
            sum(
                abs(slope) * judges[part.structure].naturals[part.observable.name]
                for slope, part in zip(of.expansion.slopes, of.formula.parts, strict=True)
            )
        )
        for name, of in given.items()
    }
    return _Judge(
        tolerance=one.tolerance,
        parameters=one.parameters,
        derivatives={
            name: {p: np.float64(d) for p, d in of.derivatives.items()}
            for name, of in given.items()
        },
        value_errors={name: np.asarray(of.error) for name, of in given.items()},
        errors={
            name: {p: np.asarray(e) for p, e in of.errors.items()} for name, of in given.items()
        },
        naturals=naturals,
        contact=one.contact,
    )


def compared_size(
    derivatives: Mapping[str, np.ndarray | np.float64],
    name: str,
    parameters: Mapping[str, float],
    natural: float,
) -> float:
    """What the error of a derivative is taken relative to, which is never zero.

    max(|derivative|, floor). The floor serves derivatives that vanish by symmetry, where a relative
    error would be 0/0: it is one thousandth of the largest |theta dO/dtheta| among all parameters,
    divided by |theta|. An error of 1e-6 is then at most a billionth of what the observable does
    when its leading parameter changes by as much. Where all derivatives vanish, a
    hundred-thousandth of the observable's natural size takes its place.

    Arguments:
        derivatives: the observable's derivative in each parameter.
        name: the parameter.
        parameters: values of all parameters; one that is zero counts as one.
        natural: size of the observable from the energy and the range of the potential.

    Returns:
        The size, in the unit of the derivative.
    """
    sizes = {key: abs(value) or 1.0 for key, value in parameters.items()}
    leading = max(sizes[key] * float(np.linalg.norm(value)) for key, value in derivatives.items())
    floor = max(SCALE_FLOOR * leading, ROUNDING_FLOOR * natural) / sizes[name]
    # Where there is no energy either, as without contacts, any number above zero will do.
    return max(float(np.linalg.norm(derivatives[name])), floor, float(np.finfo(float).tiny))


def relative_error(
    found: np.ndarray | np.float64,
    derivatives: Mapping[str, np.ndarray | np.float64],
    name: str,
    parameters: Mapping[str, float],
    natural: float,
) -> float:
    """How far a finite difference is from a derivative, relative to `compared_size`.

    Arguments:
        found: the finite difference.
        derivatives: the observable's derivative in each parameter.
        name: the parameter.
        parameters: values of all parameters; one that is zero counts as one.
        natural: size of the observable from the energy and the range of the potential.

    Returns:
        The relative error, in the Euclidean norm over all entries.
    """
    size = compared_size(derivatives, name, parameters, natural)
    return float(np.linalg.norm(found - derivatives[name])) / size


def position_differences(
    structure: StudyStructure, base: Equilibrium, name: str
) -> Float[np.ndarray, "N D"]:
    """The derivative of the positions by finite differences, with the same contacts at every point.

    Arguments:
        structure: how to relax.
        base: the structure at the parameter's own value.
        name: the parameter.

    Returns:
        The derivative, without what the energy does not determine.

    Raises:
        RelaxationError: no step is small enough to follow the minimum.
    """
    implicit = sensitivity(base, wrt=name, allow_unconverged=True, error_estimate=False)
    tangents = np.asarray(implicit.positions[name]), np.asarray(implicit.cell[name])
    differences = Differences(structure, base, name, (), tangents, _uncertainty(base))
    step = differences.first_step()
    for _ in range(MOST_HALVINGS + 1):
        trouble = differences.trouble(step)
        if not trouble and base.potential.contact:
            trouble = differences.crossing(step)
        if not trouble:
            return np.asarray(differences.of(POSITIONS, step, 0.0).value)
        step /= 2.0
    raise RelaxationError(
        f"{name}: no step down to {2 * step:.1e} stays in the same minimum ({trouble}): the "
        "structure is about to change there, and has no derivative to compare with"
    )


def _uncertainty(base: Equilibrium) -> Float[np.ndarray, "N D"]:
    """Error of each relaxed coordinate: what residual forces and rounding leave of it, length."""
    response = linear_response(base)
    noise = noise_of(
        base.potential, base.positions, base.cell, base.certificate.lowest_eigenvalue,
        response.stiffness, base.system.units,
    )  # fmt: skip
    step = np.abs(response.newton_step[: base.system.atom_count])
    return step + noise.relative * noise.length


def _implicit(implicit: Sensitivity, observable: str, name: str, base: Equilibrium) -> np.ndarray:
    if observable == POSITIONS:
        return determined(np.asarray(implicit.positions[name]), base)
    return np.asarray(implicit[observable][name])


def _natural_size(observable: str, implicit: Sensitivity, base: Equilibrium) -> float:
    """Size of an observable by its dimension, from the energy and the potential's range."""
    length = float(base.potential.interaction_range)
    if observable == POSITIONS:
        return length
    energy = abs(float(base.energy)) / base.system.atom_count
    asked = implicit.observables[observable].dimension_in(base.system.dimension)
    size = natural_size(asked, energy, length, base.system.units)
    return size * float(np.sqrt(np.size(implicit.observed[observable])))
