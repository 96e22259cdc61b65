"""The tables of the README: kernels, the hub beside a bare echo and beside the original."""
