import asyncio

from essays import essay

from learning_observer_kvs import KVSRouter, queries


async def fill(router):
    for student, document in (('ls-17', 'D1'), ('ls-17', 'D2'), ('ls-18', 'D3')):
        process_event = await essay({'auth': {'safe_user_id': student}}, router=router)
        for number, key in enumerate('A dog'):
            await process_event({'client': {'key': key, 'timestamp': number}}, {'doc_id': document})


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        await fill(router)
        store = router()

        # A table: a row for each student and document, a cell for each reducer.
        documents = {'ls-17': ['D1', 'D2'], 'ls-18': 'D3'}
        for row in await queries.table(store, [essay], ['ls-17', 'ls-18', 'ls-19'], documents=documents):
            print(row.student, row.document, row.cells['essays.essay'])

        # Parts of internal states.
        parts = {'text': 'text', 'time.last': 'when'}
        [row] = await queries.table(store, [essay], ['ls-18'], documents='D3', state='internal', fields=parts)
        print(row.cells['essays.essay'].value)

        # As the dashboards of Learning Observer ask.
        roster = [{'user_id': 'ls-17', 'doc': 'D1'}, {'user_id': 'ls-18', 'doc': 'D3'}]
        keys = queries.keys(essay, STUDENTS=roster, STUDENTS_path='user_id', RESOURCES=roster, RESOURCES_path='doc')
        async for element in queries.select(keys, {'text': 'essay'}, store=store):
            print(element['essay'], element['provenance']['key'])

        # What is there.
        print(sorted([student async for student in queries.students(store)]))
        print(sorted([document async for document in queries.documents(store, 'ls-17')]))
        async for state in queries.states_of(store, 'ls-18'):
            print(state.reducer, state.document, await store[state.external])

        # What is no longer wanted.
        print(await queries.remove_states(store, essay))


asyncio.run(main())
