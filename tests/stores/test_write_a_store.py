"""The store of another package: it keeps the contract, and is added by an entry point or in ``KVS_MAP``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from learning_observer_kvs import kvs
from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVS_MAP, InMemoryKVS, KVSRouter
from learning_observer_kvs.stores.base import Store
from tests.support.programs import environment

EXAMPLES = Path(__file__).parent.parent.parent / 'docs' / 'examples' / 'write-a-store'


@pytest.fixture(autouse=True)
def _types_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvs, 'KVS_MAP', dict(KVS_MAP))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``mine`` is installed, with the example's store and others that cannot be used."""
    (tmp_path / 'one_file.py').write_text((EXAMPLES / 'one_file.py').read_text())
    (tmp_path / 'broken.py').write_text('import no_such_module_anywhere\n')
    (tmp_path / 'half.py').write_text(
        'from learning_observer_kvs.stores.base import Store\nclass Half(Store):\n    TYPE = "half"\n'
    )
    (folder := tmp_path / 'mine-1.0.dist-info').mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n')
    (folder / 'entry_points.txt').write_text(
        '[learning_observer_kvs.stores]\n'
        'onefile = one_file:OneFileKVS\nbroken = broken:Store\nhalf = half:Half\nword = json:dumps\n'
        'stub = broken:Store\nclass = json:JSONDecoder\n[console_scripts]\nscript = one_file:OneFileKVS\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def refusal(**stores: object) -> str:
    with pytest.raises(StartupCheck) as raised:
        KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}, **stores}})
    return str(raised.value)


@pytest.mark.timeout(600)
def test_the_example_keeps_the_contract(tmp_path: Path) -> None:
    for name in ('one_file.py', 'test_one_file.py', 'pytest.ini'):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(tmp_path)],
        cwd=Path(__file__).parent.parent.parent,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(done.stdout.splitlines()[-1].split(' passed')[0].split()[-1]) > 180


async def test_a_store_is_added_by_an_entry_point(installed: Path) -> None:
    settings = {'kvs': {'default': {'type': 'onefile', 'path': str(installed / 'state.json')}}}
    async with KVSRouter.from_settings(settings) as router:
        await router().set('k', 1)
        assert repr(router()) == f"<OneFileKVS 'default' at {installed / 'state.json'}>"
    assert '"k": "1"' in (installed / 'state.json').read_text()


def test_an_entry_point_of_another_group_is_not_a_store(installed: Path) -> None:
    assert 'Known types: stub,' in refusal(a={'type': 'script'})


async def test_a_store_is_added_in_the_table_of_types(tmp_path: Path) -> None:
    class Mine(InMemoryKVS):
        TYPE = 'mine'

    kvs.KVS_MAP['mine'] = Mine
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'mine'}}}) as router:
        assert isinstance(router(), Mine)


def test_options_of_an_added_store_are_checked_like_any_others(installed: Path) -> None:
    assert 'onefile needs it. Add path: the file.  [KVS.E007]' in refusal(a={'type': 'onefile'})
    assert "Did you mean 'path'?" in refusal(a={'type': 'onefile', 'pth': 'x'})


@pytest.mark.parametrize(
    ('word', 'said'),
    [
        ('broken', "mine (broken:Store), which cannot be loaded: ModuleNotFoundError: No module named 'no_such_module"),
        ('half', 'mine (half:Half), which lacks _scan, commit_bytes, location, read_bytes'),
        ('word', 'mine (json:dumps), which is not a Store class'),
        ('class', 'mine (json:JSONDecoder), which is not a Store class'),
    ],
)
def test_a_broken_store_of_a_package_is_reported_with_package_and_reason(installed: Path, word: str, said: str) -> None:
    text = refusal(a={'type': word})
    assert f"kvs.a.type is '{word}', which is added by {said}" in text
    assert '[KVS.E017]' in text
    assert text.count('KVS.E') == 1


def test_a_broken_store_that_is_not_configured_is_not_imported(installed: Path) -> None:
    router = KVSRouter.from_settings({'kvs': {'default': {'type': 'onefile', 'path': str(installed / 'a.json')}}})
    assert isinstance(router(), Store)
    assert 'broken' not in sys.modules


def test_a_misspelled_type_of_a_package_gets_a_hint(installed: Path) -> None:
    assert "Did you mean 'onefile'?" in refusal(a={'type': 'onefiel'})
    assert 'Known types: stub,' in (text := refusal(a={'type': 'xyzzy'}))
    assert 'onefile' in text


def test_a_type_that_exists_keeps_its_meaning(installed: Path) -> None:
    assert isinstance(KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}})(), InMemoryKVS)


def test_one_type_added_by_two_packages_is_an_error(installed: Path) -> None:
    (folder := installed / 'other-2.0.dist-info').mkdir()
    (folder / 'METADATA').write_text('Metadata-Version: 2.1\nName: other\nVersion: 2.0\n')
    (folder / 'entry_points.txt').write_text('[learning_observer_kvs.stores]\nonefile = other:Store\n')
    said = 'is added by several packages: mine (one_file:OneFileKVS) and other (other:Store)'
    assert said in refusal(a={'type': 'onefile'})
