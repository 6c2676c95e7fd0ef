from learning_observer_kvs import settings

settings.load_settings(['local.pmss', 'creds.yaml'])
