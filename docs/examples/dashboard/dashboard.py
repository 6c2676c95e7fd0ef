from html import escape

from aiohttp import web
from lesson import essay, last_document, typing

import learning_observer_kvs
from learning_observer_kvs import queries

DEFAULTS = [
    {'function': typing, 'default': {'keys': 0}},
    {'function': essay, 'default': {'words': 0, 'end': ''}},
]


async def class_rows(store):
    """A row for each student: how much they have typed, and their last document."""
    students = sorted([student async for student in queries.students(store, typing)])
    last = await queries.table(store, [{'function': last_document, 'default': {'id': None}}], students)
    documents = {row.student: row.cells['lesson.last_document'].value['id'] for row in last}
    return await queries.table(store, DEFAULTS, students, documents=documents)


async def page(request):
    lines = [
        f'<tr><td>{escape(row.student)}<td>{row.cells["lesson.typing"].value["keys"]}'
        f'<td>{row.cells["lesson.essay"].value["words"]}<td>{escape(row.cells["lesson.essay"].value["end"])}'
        for row in await class_rows(request.config_dict['kvs']())
    ]
    head = '<!doctype html><meta charset="utf-8"><title>The class</title><table><tr><th>Student<th>Keys<th>Words<th>End'
    return web.Response(text='\n'.join([head, *lines]), content_type='text/html')


app = web.Application()
learning_observer_kvs.setup(app, 'creds.yaml')
app.router.add_get('/', page)

if __name__ == '__main__':
    web.run_app(app, host='127.0.0.1', port=8080)
