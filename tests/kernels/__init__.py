"""The hub's kernels timed, by hand or by ``make bench``; ``make test`` does not collect these.

Each benchmark names in ``extra_info`` how many units a call does (``units``, client-periods
where ``unit`` does not say otherwise), and asserts that it did what it is timed for.
"""
