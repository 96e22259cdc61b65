"""The load-test harness: virtual JackTrip clients, scenarios, capacity and benchmarks.

It knows a hub by the wire and its control socket only, and so plays against any hub.
"""
