"""The start: settings, checks, reducers, application, routes, in this order."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

import learning_observer.cache
import learning_observer.prestartup
import learning_observer.routes
import learning_observer.settings
import learning_observer.stream_analytics


def create_app(config_file: str, rulesets: Sequence[str] = ()) -> web.Application:
    """The application of a configuration."""
    learning_observer.settings.parse_arguments(config_file, rulesets)
    learning_observer.settings.load_settings(config_file)
    learning_observer.prestartup.startup_checks_and_init()
    learning_observer.stream_analytics.init()
    app = web.Application()
    learning_observer.routes.add_routes(app)
    return app
