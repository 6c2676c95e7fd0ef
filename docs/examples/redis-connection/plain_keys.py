import asyncio

from learning_observer_kvs import KVS, prestartup, redis_connection, settings


async def main():
    await prestartup.run_startup_checks_and_init()
    await redis_connection.set('greeting', 'hello', expiry=60)
    print(await redis_connection.get('greeting'), await redis_connection.mget(['greeting', 'missing']))
    print(await redis_connection.delete('greeting'))
    await KVS.close()


settings.load_settings('creds.yaml')
asyncio.run(main())
