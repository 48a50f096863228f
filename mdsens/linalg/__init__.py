"""Linear algebra on the host, with NumPy and SciPy: it knows neither JAX nor atoms."""
