"""``python -m learning_observer_kvs.cli`` is ``lo-kvs``."""

from learning_observer_kvs.cli.main import main

main(prog_name='lo-kvs')
