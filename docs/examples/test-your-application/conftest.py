pytest_plugins = ['learning_observer_kvs.testing.fixtures']
