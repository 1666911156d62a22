"""How fast the whole way from a picture to the page is, on this machine, at this load.

- ``figures.py``: what is measured, as data, and its JSON Schema.
- ``machine.py``: what the machine is, and whether it stayed as fast as it was.
- ``workload.py``: cameras that play clips at a pace, networks with so many active AUs.
- ``closed.py``: the next frame comes when the last is done: ``single``, ``multi``, ``offline``.
- ``paced.py``: frames come when they come; the live path with its server and two clients
  (``clients.py``).
- ``limits.py``: figures that must not be passed (``--fail-over``).
- ``plan.py``: what is run, in which order, in the time there is.
"""
