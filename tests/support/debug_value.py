"""A value of a reducer with all that a page of it has to show, and to mask."""

from __future__ import annotations

import json

KEY = 'Internal,values.count,STUDENT:ann'
OTHER = KEY.replace('Internal', 'External')

VALUE = {
    'text': 'First line\nSecond <b>line</b>',
    'words': 7,
    'items': [{'number': number, 'password': f's3cret{number}'} for number in range(250)],
    'auth': {'inner': {'deep': 's3cret'}},
    'as text': json.dumps({'token': 's3cret'}),
    'empty': {},
    'none': None,
}
