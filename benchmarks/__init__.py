"""mdsens and its peers, LAMMPS and jax-md, on the same work: `python -m benchmarks --help`."""
