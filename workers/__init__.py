"""Data plane: the real-time processes and their numba kernels."""
