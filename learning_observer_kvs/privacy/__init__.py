"""One student's data: found, exported, erased, and kept away; and all students' data: pseudonymized, expired.

ids = privacy.Ids(['ls-17', 'jo@school.example'])
async for place in privacy.find({'default': store}, ids, folders=['logs']):
    print(place.name)
receipt = await privacy.erase({'default': store}, ids, who='the office', folders=['logs'])
"""

from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.erasure import Receipt, erase, plan
from learning_observer_kvs.privacy.exporting import Export, document, export, write
from learning_observer_kvs.privacy.page import page
from learning_observer_kvs.privacy.places import Place
from learning_observer_kvs.privacy.pseudonyms import Pseudonyms
from learning_observer_kvs.privacy.retention import Expired, expire
from learning_observer_kvs.privacy.search import find
from learning_observer_kvs.privacy.suppressed import lift, suppressed

__all__ = [
    'Expired',
    'Export',
    'Ids',
    'Place',
    'Pseudonyms',
    'Receipt',
    'document',
    'erase',
    'expire',
    'export',
    'find',
    'lift',
    'page',
    'plan',
    'suppressed',
    'write',
]
