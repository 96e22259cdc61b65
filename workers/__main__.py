"""``python -m workers``: the zygote, loaded without looking for garbage.

Nearly all that is loaded stays: looking through it again and again takes an eighth of the time
that a hub needs to start.
"""

import gc


def main() -> None:
    """Load the zygote, and be it."""
    gc.disable()
    from workers.zygote import main as be_zygote

    be_zygote()


if __name__ == "__main__":
    main()
