import asyncio
import shutil

from learning_observer_kvs import KVS, prestartup, settings


@prestartup.register_startup_check
def check_disk():
    if shutil.disk_usage('.').free < 1 << 20:
        raise prestartup.StartupCheck('The disk is full. Free a megabyte.')


@prestartup.register_init_function
async def greet():
    await KVS().set('greeting', 'hello')


async def main():
    await prestartup.run_startup_checks_and_init()
    print(await KVS()['greeting'])
    await KVS.close()


settings.load_settings({'kvs': {'default': {'type': 'stub'}}})
asyncio.run(main())
