"""``tuttihub top``: everybody at a glance, live, in a terminal."""
