"""Start a real server from its checkout, without what would differ from run to run.

Nothing is downloaded for its pages, and the time that it adds to events is constant: some reducers store it.

python launch.py --config-file creds.yaml --port 8888
"""

import learning_observer.incoming_student_event
import learning_observer.module_loader


def third_party() -> dict[str, object]:
    """Load the modules, as the start expects of this function, and download nothing."""
    learning_observer.module_loader.load_modules()
    return {}


def compile_server_data(request: object) -> dict[str, object]:
    """Return what the server adds to each event."""
    return {'time': 1700000000.0, 'origin': '', 'agent': '', 'ip': '', 'executable': 'aio_webapp'}


learning_observer.module_loader.third_party = third_party
learning_observer.incoming_student_event.compile_server_data = compile_server_data

import learning_observer.main  # noqa: E402
