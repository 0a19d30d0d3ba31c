"""The modules ``uwsgi`` and ``uwsgidecorators`` that an application imports, where ``--uwsgi-module`` asks for them."""
