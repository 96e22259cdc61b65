"""After the run: taking apart what was captured, and naming each fault.

captures ---- tuttis: the exact sum of all parts, sample by sample ------+
         ---- evidence: wrong packets of solos --------------------------+--> diagnosis: names
counters ---- lost, twice, out of order, late, never heard --------------+--> merge --> findings
"""

from loadtest.hearing.examination import examine

__all__ = ["examine"]
