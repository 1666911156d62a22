"""Sessions on disk: written while they happen, read to the last second, played again.

``folder`` names and lays out a session, ``recorder`` writes one, ``reader`` reads it, ``player``
plays it through a hub, ``result`` and ``tables`` turn it into what is analysed afterwards.
"""
