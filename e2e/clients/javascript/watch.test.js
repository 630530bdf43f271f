import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, test } from './support.js';

test('a watch replays history, then follows', async t => {
  const { keys, watch } = connect(t);
  const begin = (await keys.put('a').value('1').exec()).header.revision;
  await keys.delete().key('a');

  const seen = await watch(keys.watch().prefix('').startRevision(begin));
  assert.deepEqual(await seen.next(2), ['put a=1', 'delete a']);
  await keys.put('b').value('2');
  assert.deepEqual(await seen.next(1), ['put b=2']);
});

test('a watch shows what was there before', async t => {
  const { keys, watch } = connect(t);
  await keys.put('a').value('1');
  const { watcher } = await watch(keys.watch().key('a').withPreviousKV());
  const deleted = once(watcher, 'delete');
  await keys.delete().key('a');
  const [, previous] = await deleted;
  assert.equal(previous.value.toString(), '1');
});

test('a watch sees only what it asks for', async t => {
  const { keys, watch } = connect(t);
  const begin = (await keys.put('a').value('1').exec()).header.revision;
  await keys.delete().key('a');
  const deletes = await watch(keys.watch().prefix('').startRevision(begin).only('delete'));
  assert.deepEqual(await deletes.next(1), ['delete a']);
});

test('many watches share a stream', async t => {
  const { keys, watch } = connect(t);
  const names = Array.from({ length: 20 }, (_, i) => `key${i}`);
  const watches = await Promise.all(names.map(name => watch(keys.watch().key(name))));
  await Promise.all(names.map(name => keys.put(name).value('1')));
  for (const [i, seen] of watches.entries()) assert.deepEqual(await seen.next(1), [`put ${names[i]}=1`]);
});

test('a canceled watch is silent, and the others go on', async t => {
  const { keys, watch } = connect(t);
  const gone = await keys.watch().prefix('').create();
  const stays = await watch(keys.watch().prefix(''));
  gone.on('put', () => assert.fail('a canceled watch saw a put'));
  await gone.cancel();
  await keys.put('a').value('1');
  assert.deepEqual(await stays.next(1), ['put a=1']);
});

test('a watch of the compacted past ends with an error', async t => {
  const { client, keys } = connect(t);
  const past = (await keys.put('a').value('1').exec()).header.revision;
  const now = (await keys.put('a').value('2').exec()).header.revision;
  await client.kv.compact({ revision: now });

  const watcher = await keys.watch().key('a').startRevision(past).create();
  await assert.rejects(once(watcher, 'end'), /Watcher canceled/);
});
