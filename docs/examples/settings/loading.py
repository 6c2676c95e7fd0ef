from learning_observer_kvs import settings

loaded = settings.load_settings('creds.yaml')
print(loaded['kvs']['default']['type'], loaded.location('kvs', 'default', 'type'))
print(settings.run_mode(loaded))
print(loaded is settings.settings, 'redis_password' in settings.settings['redis_connection'])
