"""Changes to inputs: of values and keys in a study, of words and lines in a text, of bytes."""

import copy
import io
import random
import tomllib

import ase.build
import ase.io
from readers import SETTING, STRUCTURE_NAMES, SYSTEMS

from mdsens.study.toml import to_toml

NUMBERS = [
    0, 1, -1, 2, 3, 7, 10**6, 10**9, 2**31, 2**32, 2**63, 10**30, 10**400, 0.0, -0.0, 0.5, 1.5,
    -2.5, 1e-300, 5e-324, 1e-10, 1e10, 1e160, 1e300, 1.8e308, float("inf"),
    -float("inf"), float("nan"),
]  # fmt: skip
OBSERVABLES = [
    "energy", "energy_per_atom", "volume", "area", "area(1,2)", "atoms", "bulk.energy",
    "pressure", "stress", "distance(0,1)", "distance(0,1.5)",
    "distance(-1,0)", "distance(0,0)", "distance(0,10**9)", "distance(i=0,j=1)", "angle(0,1,2)",
    "angle(0,1)", "angle(True,1,2)", "coordination(4.5)", "coordination(4.5,0.1)",
    "coordination(1e6)", "coordination(1e300)", "coordination('a')", "coordination([1])",
    "coordination(-1)", "coordination(4, None)", "radial_distribution(5)",
    "radial_distribution(5, 10)", "radial_distribution(5, bins='a')",
    "radial_distribution(5, 10**9)", "radial_distribution(5, 1.5)", "radial_distribution(1e4)",
    "mean_squared_displacement", "mean_squared_displacement([[0,0,0]])",
    "mean_squared_displacement('a')", "energy()", "energy()()", "energy(", "__import__('os')",
    "distance(*[0,1])", "distance(**{'i':0,'j':1})", "(" * 300 + ")" * 300, "distance(0,{})",
    "distance(0,1)\n", "\0", "elastic_constants", "lambda: 0", "coordination(float('nan'))",
    "coordination(1e999)", "distance(" + "-" * 3000 + "1,0)", "angle(0,1,2", "coordination(5)#",
]  # fmt: skip
TEXTS = [
    "", " ", "a", "Ar", "X", "α", "Ar-Kr", "Kr-Ar", "nan", "inf", "3.4", "3.4 Ang", "0.34 nm",
    "1e999 Ang", "nan Ang", "3.4 eV", "3.4Ang", "3,4 Ang", "1e-8 eV/Ang", "1 GPa", "[/]",
    "[bold red]", "<script>", "../a", "/", "/dev/null", "/dev/zero", ".", "..", "~", "a@0.extxyz",
    "argon-cluster.xyz", "argon-vacancy.extxyz", "copper-adatom.extxyz", "POSCAR", "study.toml",
    "POSCAR@0", "POSCAR@:", "x" * 5000, "a/" * 2500, "\0", "\n", "\x1b[31m", "\u202e", "\ufeff",
    "smooth", "shifted", "force-shifted", "none", "harmonic", "hertzian", "lennard-jones", "morse",
    "soft-sphere", "stillinger-weber", "sutton-chen", "wca", "soft-sphere-packing", "auto", "fire",
    "lbfgs", "newton", "full", "isotropic", "ase", "reduced", "large", "small", "sigma", "epsilon",
    *OBSERVABLES,
]  # fmt: skip
KEYS = [
    "name", "description", "units", "structure", "potential", "relaxation", "sensitivity", "verify",
    "ensemble", "structures", "formulas", "bulk",
    "file", "builder", "count", "diameters", "packing_fraction", "dimension", "seed",
    "rattle", "amplitude", "type", "epsilon", "sigma", "cutoff", "onset", "truncation", "species",
    "diameter", "alpha", "D", "r0", "a", "n", "m", "c", "p", "q", "A", "B", "gamma", "lambda_",
    "costheta0", "method", "fmax", "max_steps", "cell", "pressure", "max_step", "observables",
    "wrt", "fixed", "skin", "allow_unconverged", "error_estimate", "mode", "logarithmic",
    "step", "tolerance", "seeds", "steps", "parameter", "Ar",
    "large", "small", "", "self", "x.y", "α", "large-small", "__class__",
]  # fmt: skip
#: Words that mean something in one format of structures or another.
WORDS = [
    "nan", "inf", "-inf", "1e400", "1e300", "-1", "0", "1", "2", "1e-320", "999999999", "1/0",
    "1/3", "0.5", "T", "F", "x", "Xx", "Ar", "Si", "H", "X1", "?", ".", "loop_", "Lattice=",
    'Lattice="1 0 0 0 1 0 0 0 0"', 'pbc="T T F"', 'pbc="nan 1 2"', "Properties=species:S:1:pos:R:3",
    "Properties=pos:R:2", "species:S:1", "pos:I:3", "_atom_site_occupancy", "Direct", "Cartesian",
    "Selective", "dynamics", "atoms", "atom", "types", "xlo", "xhi", "xy", "xz", "yz", "Atoms",
    "#", "CRYST1", "ATOM", "END", "'", '"', "{", "}", "[", "]", ":", ",", "null", "true", "\0", "é",
    "_symmetry_equiv_pos_as_xyz", "x,y,z", "-x,1/2+y,z", "P1", "Fm-3m", "225", "move_mask:L:3",
    "data_", "_cell_length_a", "lattice_vector", "frac", "1.0(3)", "5*3", "1e", "--5", "0x10",
    "animated", "PRIMVEC", "PRIMCOORD", "ANIMSTEPS", "nat=0", "ibrav=0", "ibrav=999",
]  # fmt: skip


def study_seeds() -> list[bytes]:
    """The ready studies, and small ones for every potential and every table."""
    texts = [path.read_text("utf-8") for path in sorted(SYSTEMS.glob("*/study.toml"))]
    lennard_jones = "type = 'lennard-jones'\nepsilon = 0.01\nsigma = 3.4\ncutoff = 8.5\n"
    for potential in (
        lennard_jones + "truncation = 'shifted'\n",
        lennard_jones + "onset = '0.8 nm'\n",
        "type = 'lennard-jones'\nspecies = ['Ar', 'Kr']\nepsilon = 0.01\n"
        "sigma = { Ar = 3.4, Kr-Ar = 3.5, 'Kr-Kr' = 3.6 }\ncutoff = 8.5\n",
        "type = 'wca'\nepsilon = 0.01\nsigma = 3.4\n",
        "type = 'morse'\nD = 0.1\nalpha = 1.5\nr0 = 3.4\ncutoff = 8.5\n",
        "type = 'sutton-chen'\nepsilon = 0.01\na = 5.0\nc = 30.0\nn = 9.0\nm = 6.0\ncutoff = 8.5\n",
    ):
        texts.append(
            "name = 'a'\ndescription = 'b'\nunits = 'ase'\n"
            "[structure]\nfile = 'argon-cluster.xyz'\n"
            "dimension = 3\nrattle = { amplitude = '0.01 Ang', seed = 3 }\n"
            f"[potential]\n{potential}[relaxation]\ncell = 'none'\npressure = '1 GPa'\n"
            "[sensitivity]\nobservables = ['distance(0,1)', 'angle(0,1,2)', 'coordination(4.5)', "
            "'radial_distribution(5)']\nmode = 'reverse'\nlogarithmic = true\n"
            f"{SETTING}relaxation.fmax=1e-6\n{SETTING}potential.epsilon=0.02\n"
        )
    for formula in (
        "b.energy - b.atoms / a.atoms * a.energy", "(a.distance(0,1) + 1e0 * b.distance(1,2)) ** 2",
        "-a.energy ** (1/3) / (a.energy / b.energy) ** (1/3)", "a.coordination(4.5) - 1",
    ):  # fmt: skip
        texts.append(
            f"[structures.a]\nfile = 'argon-cluster.xyz'\n[potential]\n{lennard_jones}"
            "[structures.b]\nfile = 'argon-cluster.xyz'\nrelaxation = { max_steps = 10 }\n"
            f"[formulas]\nfound = '{formula}'\n[sensitivity]\nobservables = ['a.energy']\n"
        )
    for dimension in (2, 3):
        texts.append(
            "units = 'reduced'\n[structure]\nbuilder = 'soft-sphere-packing'\n"
            f"count = {{ large = 8, small = 8 }}\ndimension = {dimension}\n"
            "diameters = { large = 1.0, small = 0.6 }\npacking_fraction = 0.9\nseed = 1\n"
            "[potential]\ntype = 'soft-sphere'\nspecies = ['large', 'small']\n"
            "diameter = { large = 1.0, small = 0.6 }\nalpha = 2.5\n[ensemble]\nseeds = 2\n"
            "parameter = 'diameter[small]'\nsteps = 10\n[relaxation]\nmethod = 'fire'\n"
        )
    return [text.encode() for text in texts]


def structure_seeds() -> list[bytes]:
    """A few small structures in every format that ASE writes."""
    salt = ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True)
    surface = ase.build.fcc111("Cu", (2, 1, 2), vacuum=4.0)
    molecule = ase.build.molecule("H2O")
    molecule.set_cell([[5, 0, 0], [1, 5, 0], [0, 0, 5]])
    formats = {
        "a.extxyz": "extxyz", "a.xyz": "xyz", "POSCAR": "vasp", "CONTCAR": "vasp", "a.cif": "cif",
        "a.json": "json", "a.traj": "traj", "a.lammps-data": "lammps-data",
        "a.pdb": "proteindatabank", "a.xsf": "xsf", "a.gen": "gen", "geometry.in": "aims",
        "a.res": "res", "a.cube": "cube", "a.gro": "gromacs", "a.cfg": "cfg",
        "a.pwi": "espresso-in",
    }  # fmt: skip
    seeds = []
    for name, kind in formats.items():
        for atoms in (salt, surface, molecule):
            options = {
                "pseudopotentials": dict.fromkeys(set(atoms.get_chemical_symbols()), "a.UPF")
            }
            buffer = io.BytesIO() if kind in ("traj", "cif") else io.StringIO()
            try:
                ase.io.write(
                    buffer, atoms, format=kind, **(options if kind == "espresso-in" else {})
                )
            except Exception:
                # Not every format has room for every structure.
                continue
            data = buffer.getvalue()
            data = data if isinstance(data, bytes) else data.encode()
            seeds.append(bytes([STRUCTURE_NAMES.index(name)]) + data)
    for path in SYSTEMS.glob("*/*"):
        name = {".extxyz": "a.extxyz", ".xyz": "a.xyz", "": "POSCAR"}.get(path.suffix)
        if name and path.is_file():
            seeds.append(bytes([STRUCTURE_NAMES.index(name)]) + path.read_bytes()[:4000])
    return seeds


def mutate_study(data: bytes, chance: random.Random) -> bytes:
    """A study with a few values, keys, words or bytes changed."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        data = _mutate_table(data, chance) if chance.random() < 0.75 else _mutate_text(data, chance)
    return data[:20_000]


def mutate_structure(data: bytes, chance: random.Random) -> bytes:
    """A structure file with a few words, lines or bytes changed; now and then of another name."""
    head, body = data[:1] or b"\0", data[1:]
    if chance.random() < 0.03:
        head = bytes([chance.randrange(len(STRUCTURE_NAMES))])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        body = _mutate_text(body, chance)
    return head + body[:20_000]


def _mutate_table(data: bytes, chance: random.Random) -> bytes:
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return _mutate_text(data, chance)
    settings = [line for line in data.decode().splitlines() if line.startswith(SETTING)]
    inner, keys = table, []
    while True:
        if not inner or chance.random() < 0.05:
            inner[chance.choice(KEYS)] = _value(chance)
            break
        key = chance.choice(list(inner))
        keys.append(key)
        if isinstance(inner[key], dict) and chance.random() < 0.9:
            inner = inner[key]
            continue
        action = chance.random()
        if action < 0.1:
            del inner[key]
        elif action < 0.15:
            inner[chance.choice(KEYS)] = inner.pop(key)
        elif action < 0.3 and isinstance(inner[key], list):
            inner[key] = [*inner[key], _value(chance)]
        elif action < 0.35:
            settings.append(f"{SETTING}{'.'.join(keys)}={_value(chance)}")
        elif action < 0.5 and isinstance(inner[key], (int, float)):
            inner[key] = inner[key] * chance.choice((0, -1, 0.5, 2, 10, 1e-9, 1e9))
        else:
            inner[key] = _value(chance)
        break
    try:
        return ("".join(f"{line}\n" for line in settings) + to_toml(copy.deepcopy(table))).encode()
    except (ValueError, RecursionError):
        return data


def _value(chance: random.Random, depth: int = 0):
    kind = chance.random()
    if kind < 0.35:
        return chance.choice(NUMBERS)
    if kind < 0.75:
        return chance.choice(TEXTS)
    if kind < 0.8:
        return chance.random() < 0.5
    if depth > 2:
        return 1
    count = chance.choice((0, 1, 2, 3))
    if kind < 0.9:
        return [_value(chance, depth + 1) for _ in range(count)]
    return {chance.choice(KEYS): _value(chance, depth + 1) for _ in range(count)}


def _mutate_text(data: bytes, chance: random.Random) -> bytes:
    action = chance.random()
    if action < 0.25 or not data:
        at = chance.randrange(len(data) + 1)
        stop = min(len(data), at + chance.choice((0, 1, 1, 2, 4, 40)))
        piece = chance.choice(
            (
                b"",
                bytes([chance.randrange(256)]),
                b"\n",
                b" ",
                b"\0",
                b"\xff",
                b"\xef\xbb\xbf",
                b"-",
            )
        )
        return data[:at] + piece + data[stop:]
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    if action < 0.65:
        words = lines[at].split(b" ")
        filled = [index for index, word in enumerate(words) if word]
        if filled:
            word = chance.choice([*WORDS, *map(str, NUMBERS[:10])]).encode()
            words[chance.choice(filled)] = word
        lines[at] = b" ".join(words)
    elif action < 0.75:
        del lines[at]
    elif action < 0.85:
        lines.insert(at, chance.choice(lines))
    elif action < 0.9:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif action < 0.95:
        lines = lines[:at]
    else:
        lines.insert(at, " ".join(chance.choices(WORDS, k=3)).encode())
    return b"\n".join(lines)
